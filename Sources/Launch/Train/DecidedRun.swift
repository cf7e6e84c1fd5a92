import Dist
import Foundation
import Settings
import Tensor

/// A run whose every `precision: auto` has been decided. It is computed, estimated and saved in this precision on all
/// ranks.
///
/// A resumed run keeps the precision in which it started. A teacher with a cache stays `auto`, because the precision of
/// its embeddings is the cache's.
struct DecidedRun: Equatable {
  var run: RunConfig
  /// The header's lines about the keys that were `auto`.
  var precision: [String] = []

  /// Decides for the processors of all ranks, in rank order.
  ///
  /// - Parameter recorded: the settings of the run that is resumed, by their dotted paths.
  init(_ run: RunConfig, on ranks: [RankProcessor], recorded: [String: String] = [:]) {
    self.run = run
    let decision = PrecisionDecision(on: ranks)
    func kept(_ key: String) -> PrecisionDecision {
      decision.keeping(recorded[key].flatMap(ComputePrecision.init(rawValue:)), of: "the run", on: ranks)
    }
    if run.precision == .auto {
      let decision = kept("precision")
      self.run.precision = PrecisionChoice(decision.used)
      precision.append(decision.text)
    }
    guard let teacher = run.teacher, run.usesTeacher else { return }
    if teacher.precision == .auto, teacher.cache == nil {
      let decision = teacher.placement == .sharded ? .sharded : kept("teacher.precision")
      self.run.teacher?.precision = PrecisionChoice(decision.used)
      precision.append(precision == [decision.text] ? "the teacher's likewise" : "the teacher's \(decision.text)")
    }
    switch ([teacher] + teacher.ensemble.map(\.teacher)).count(where: { $0.precision == .auto && $0.cache != nil }) {
    case 0: break
    case 1: precision.append("the teacher's as its cache has it")
    default: precision.append("the teachers' as their caches have them")
    }
  }

  /// Decides for the given processors, or for those of the ranks. Every rank must call it.
  init(
    _ run: RunConfig, resuming checkpoint: Checkpoint? = nil, on processors: [RankProcessor]? = nil,
    over ranks: Communicator
  ) throws {
    guard run.hasAutoPrecision else {
      self.init(run, on: [])
      return
    }
    let recorded = try checkpoint.map { try SavedRun($0).settings } ?? [:]
    self.init(run, on: try processors ?? RankProcessor.all(over: ranks), recorded: recorded)
    try ranks.requireSame("precision", precision.joined(separator: "\n"))
  }

  /// Decides for `kinship precompute`, which needs the precision of a teacher with a cache. A cache that was begun
  /// keeps its precision.
  init(precomputing run: RunConfig, on ranks: [RankProcessor], begun: ComputePrecision?) {
    self.run = run
    guard let teacher = run.teacher, teacher.precision == .auto else { return }
    let decision = PrecisionDecision(on: ranks).keeping(begun, of: "the cache", on: ranks)
    self.run.teacher?.precision = PrecisionChoice(decision.used)
    precision = ["the teacher's \(decision.text)"]
  }
}

extension PrecisionDecision {
  /// The decision for a teacher whose weights are sharded over ranks.
  fileprivate static let sharded = PrecisionDecision(used: .fp32, reason: "sharded weights are not rounded")
}

extension RunConfig {
  /// True if the precision of the run or of a teacher is `auto`.
  fileprivate var hasAutoPrecision: Bool {
    guard precision != .auto else { return true }
    guard let teacher, usesTeacher else { return false }
    return ([teacher] + teacher.ensemble.map(\.teacher)).contains { $0.precision == .auto }
  }
}
