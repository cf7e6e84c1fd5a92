import Dist
import Foundation
import Tensor

/// The processor under one rank.
struct RankProcessor: Codable, Equatable, Sendable {
  var hostname: String
  var processor: Processor

  /// The processors of all ranks, in rank order, on every rank. Every rank must call it.
  static func all(over ranks: Communicator) throws -> [RankProcessor] {
    let own = try JSONEncoder().encode(RankProcessor(hostname: ranks.hostname, processor: .current))
    return try ranks.allGather([UInt8](own)).map { try JSONDecoder().decode(RankProcessor.self, from: Data($0)) }
  }
}

/// The precision that `precision: auto` takes, and why.
struct PrecisionDecision: Codable, Equatable, Sendable {
  var used: Precision
  /// A clause without an end: `AMD Zen 4, whose bf16 dot products run at 2 times the rate of its FMAs`.
  var reason: String

  init(used: Precision, reason: String) {
    self.used = used
    self.reason = reason
  }

  /// The decision for ranks on these processors: bf16 where it is faster on each of them, fp32 for all where it is not
  /// on one. It is the same in any order of the same ranks, but for the host that the reason names.
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

  /// The decision for one processor.
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
        self.init(used: .fp32, reason: "the rate of bf16 dot products is not known of \(title)")
        return
      }
      let rate = "\(Figures.significant(ratio, 2)) times the rate of its FMAs"
      self.init(
        used: ratio < KnownProcessor.leastRatio ? .fp32 : .bf16,
        reason: "\(known.name), whose bf16 dot products run at \(rate)")
    }
  }

  /// The decision for what was begun in a precision already: that one, so that the numbers do not change on the way,
  /// unless a rank cannot compute in it.
  ///
  /// - Parameters:
  ///   - recorded: the precision in which it was begun; nil where it was not, or where nobody knows.
  ///   - what: what was begun, such as `the run`.
  func keeping(_ recorded: Precision?, of what: String, on ranks: [RankProcessor]) -> PrecisionDecision {
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

  /// `bf16 (auto: AMD Zen 4, whose …)`.
  var text: String { "\(used.rawValue) (auto: \(reason))" }
}
