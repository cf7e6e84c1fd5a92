import Dist
import Tensor

/// How the products of a run's towers read their operands, on all ranks alike.
struct ProductPrecision: Equatable {
  let used: Precision
  /// What the header says of it; nil of fp32 that was asked for.
  var note: String?
  var warning: String?

  /// bf16 where it was asked for and every rank's processor has such products: elsewhere rounding would cost time, and
  /// one rank that computes otherwise would be a rank with another model. Every rank must call it.
  static func agreed(_ wanted: Precision, over ranks: Communicator) throws -> ProductPrecision {
    guard wanted == .bf16 else { return ProductPrecision(used: .fp32) }
    let all = try ranks.allGather([UInt8]((RoundedProducts.instructions ?? "").utf8)).map {
      String(decoding: $0, as: UTF8.self)
    }
    if let without = all.firstIndex(of: "") {
      return ProductPrecision(
        used: .fp32,
        warning: "precision bf16: the processor of rank \(without) has no products of bfloat16 (AVX-512 bf16 or AMX); "
          + "all ranks compute in fp32")
    }
    let kinds = Set(all).sorted()
    return ProductPrecision(
      used: .bf16,
      note: "bf16   the towers' products through \(RoundedProducts.library) on \(kinds.joined(separator: " and ")); "
        + "sums, weights, moments and losses in fp32",
      warning: kinds.count == 1
        ? nil : "ranks compute bf16 with different instructions: a run on other ranks will not give the same bits")
  }
}

extension Precision: FieldValue {}
