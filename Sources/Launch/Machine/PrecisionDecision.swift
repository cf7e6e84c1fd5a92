import Dist
import Foundation
import Tensor

/// The precision that `precision: auto` takes, and the reason.
struct PrecisionDecision: Codable, Equatable, Sendable {
  var used: ComputePrecision
  /// A clause without a full stop: `AMD Zen 4, whose bf16 dot products run at 2 times the rate of its FMAs`.
  var reason: String

  init(used: ComputePrecision, reason: String) {
    self.used = used
    self.reason = reason
  }

  /// Decides for ranks on these processors: bf16 if it is faster on each of them, else fp32 for all. The order of the
  /// ranks affects only which host the reason names.
  init(on ranks: [RankProcessor]) {
    let decisions = ranks.map { PrecisionDecision($0.processor) }
    let exact = decisions.firstIndex { $0.used == .fp32 }
    used = exact == nil ? .bf16 : .fp32
    let reasons = Set(decisions.map(\.reason)).sorted()
    if let exact, reasons.count > 1 {
      reason = "host \(ranks[exact].hostname): \(decisions[exact].reason)"
    } else {
      reason = reasons.joined(separator: "; ")
    }
  }

  /// Decides for one processor.
  init(_ processor: Processor) {
    let name = processor.name == Machine.unknownProcessor ? "this processor" : processor.name
    switch processor.products {
    case .amx: self.init(used: .bf16, reason: "\(name) has AMX")
    case nil where processor.hasAMX || processor.hasDotProducts:
      self.init(
        used: .fp32, reason: "oneDNN uses neither AMX nor AVX512_BF16 of \(name), see the variable ONEDNN_MAX_CPU_ISA")
    case nil: self.init(used: .fp32, reason: "\(name) has neither AMX nor AVX512_BF16")
    case .dotProducts:
      guard let known = processor.known, let ratio = known.ratio else {
        let title =
          processor.known?.name
          ?? "the unknown processor \(name) (\(processor.vendor), family \(processor.family), model \(processor.model))"
        self.init(used: .fp32, reason: "the rate of bf16 dot products is not known for \(title)")
        return
      }
      let rate = "\(Figures.significant(ratio, 2)) times the rate of its FMAs"
      self.init(
        used: ratio < KnownProcessor.leastRatio ? .fp32 : .bf16,
        reason: "\(known.name), whose bf16 dot products run at \(rate)")
    }
  }

  /// Returns the decision for something that was already begun in a precision: it keeps that precision, so that the
  /// numbers do not change midway, unless a rank cannot compute in it.
  ///
  /// - Parameters:
  ///   - recorded: the precision in which it was begun; nil if it was not begun or the precision is not known.
  ///   - what: the name of what was begun, such as `the run`.
  func keeping(_ recorded: ComputePrecision?, of what: String, on ranks: [RankProcessor]) -> PrecisionDecision {
    guard let recorded, recorded != used else { return self }
    let began = "\(what) was begun in \(recorded.rawValue)"
    let lacking = ranks.first { $0.processor.products == nil }
    if recorded == .bf16, let lacking {
      let reason = PrecisionDecision(lacking.processor).reason
      return PrecisionDecision(used: .fp32, reason: "\(began), and on host \(lacking.hostname) \(reason)")
    }
    return PrecisionDecision(
      used: recorded, reason: "\(began) and keeps to it; a new one would take \(used.rawValue): \(reason)")
  }

  /// The precision with its reason: `bf16 (auto: AMD Zen 4, whose …)`.
  var text: String { "\(used.rawValue) (auto: \(reason))" }
}

/// The precision in which the towers' products read their operands, the same on all ranks.
struct ProductPrecision: Equatable {
  let used: ComputePrecision
  /// The header's line about it; nil if fp32 was asked for.
  var note: String?
  var warnings: [String] = []

  /// Returns bf16 if it is wanted and every rank's processor has such products, else fp32. Without such products
  /// rounding would cost time, and a rank with another precision would train another model. Every rank must call it.
  ///
  /// - Parameter key: the key of the run file that asks for it.
  static func agreed(
    _ wanted: ComputePrecision, key: String = "precision", over ranks: Communicator
  ) throws -> ProductPrecision {
    guard wanted == .bf16 else { return ProductPrecision(used: .fp32) }
    return ProductPrecision(wanted, key: key, on: try RankProcessor.all(over: ranks))
  }

  init(used: ComputePrecision) { self.used = used }

  /// Makes the same choice, given the processors of all ranks in rank order.
  init(_ wanted: ComputePrecision, key: String = "precision", on ranks: [RankProcessor]) {
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
