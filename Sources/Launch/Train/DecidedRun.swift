import Dist
import Foundation
import Settings
import Tensor

/// A run whose `precision: auto` is decided: it is computed, estimated and saved in one precision, the same on all
/// ranks.
///
/// A run that goes on from a checkpoint keeps to the precision in which it began. A teacher with a cache stays `auto`,
/// since its embeddings are taken in the precision that the cache has.
struct DecidedRun: Equatable {
  var run: RunConfig
  /// What the header says of each key that was `auto`; empty where none was.
  var precision: [String] = []

  /// Decides by the processors of all ranks, in rank order.
  ///
  /// - Parameter recorded: the settings of the run that a checkpoint belongs to, by their paths.
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

  /// Decides by the processors under all ranks, or by others, on which the run is to be. Every rank must call it.
  init(
    _ run: RunConfig, resuming checkpoint: Checkpoint? = nil, on processors: [RankProcessor]? = nil,
    over ranks: Communicator
  ) throws {
    guard run.leavesPrecision else {
      self.init(run, on: [])
      return
    }
    let recorded = try checkpoint.map { try SavedRun($0).settings } ?? [:]
    self.init(run, on: try processors ?? RankProcessor.all(over: ranks), recorded: recorded)
    try ranks.requireSame("precision", precision.joined(separator: "\n"))
  }

  /// The run as `kinship precompute` takes it: its teacher's precision is decided although it has a cache. A cache that
  /// was begun in a precision keeps to it.
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
  /// Whether the run leaves a precision to the processors, its own or a teacher's.
  fileprivate var leavesPrecision: Bool {
    guard precision != .auto else { return true }
    guard let teacher, usesTeacher else { return false }
    return ([teacher] + teacher.ensemble.map(\.teacher)).contains { $0.precision == .auto }
  }
}

extension SavedRun {
  /// The scalars of the run file by their paths; empty where it cannot be read.
  fileprivate var settings: [String: String] {
    (try? RunNode.parse(run) { .file(RunFolder.runFile, line: $0, column: $1) })?.tree.leaves ?? [:]
  }
}
