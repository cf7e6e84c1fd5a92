import Dist
import Tensor

/// How the products of a run's towers read their operands, on all ranks alike.
struct ProductPrecision: Equatable {
  let used: Precision
  /// What the header says of it; nil of fp32 that was asked for.
  var note: String?
  var warnings: [String] = []

  /// bf16 where it was asked for and every rank's processor has such products: elsewhere rounding would cost time, and
  /// one rank that computes otherwise would be a rank with another model. Every rank must call it.
  ///
  /// - Parameter key: the key of the run file that asks for it.
  static func agreed(
    _ wanted: Precision, key: String = "precision", over ranks: Communicator
  ) throws -> ProductPrecision {
    guard wanted == .bf16 else { return ProductPrecision(used: .fp32) }
    return ProductPrecision(wanted, key: key, on: try RankProcessor.all(over: ranks))
  }

  init(used: Precision) { self.used = used }

  /// The same, given the processors of all ranks in rank order.
  init(_ wanted: Precision, key: String = "precision", on ranks: [RankProcessor]) {
    guard wanted == .bf16 else {
      self.init(used: wanted)
      return
    }
    if let without = ranks.firstIndex(where: { $0.processor.products == nil }) {
      self.init(used: .fp32)
      warnings = [
        "\(key) bf16: the processor of rank \(without) has no products of bfloat16 (AVX-512 bf16 or AMX); "
          + "all ranks compute in fp32, as they do with \(key): auto or fp32"
      ]
      return
    }
    let kinds = Set(ranks.compactMap(\.processor.products?.rawValue)).sorted()
    self.init(used: .bf16)
    note =
      "bf16   the towers' products through \(RoundedProducts.library) on \(kinds.joined(separator: " and ")); "
      + "sums, weights, moments and losses in fp32"
    if kinds.count > 1 {
      warnings.append(
        "ranks compute bf16 with different instructions: a run on other ranks will not give the same bits")
    }
    if let slow = ranks.first(where: \.processor.isSlowerRounded) {
      warnings.append(
        "\(key) bf16 is slower than fp32 on host \(slow.hostname): \(PrecisionDecision(slow.processor).reason); "
          + "write \(key): fp32, or auto in a new run")
    }
  }
}
