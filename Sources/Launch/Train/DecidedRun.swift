import Dist
import Foundation
import Model
import Settings
import Tensor

/// A run with every `precision: auto` decided. A resumed run keeps its own, a teacher with a cache its cache's; a run
/// also keeps the handling of transparency that its live teacher had.
struct DecidedRun: Equatable {
  var run: RunConfig
  /// The header's lines about the keys that were `auto`.
  var precision: [String] = []

  /// Decides for all ranks' processors, in order. `recorded` are a resumed run's settings by their dotted paths.
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
      let sharded = PrecisionDecision(used: .fp32, reason: "sharded weights are not rounded")
      let decision = teacher.placement == .sharded ? sharded : kept("teacher.precision")
      self.run.teacher?.precision = PrecisionChoice(decision.used)
      precision.append(precision == [decision.text] ? "the teacher's likewise" : "the teacher's \(decision.text)")
    }
    switch run.teachers.count(where: { $0.precision == .auto && $0.cache != nil }) {
    case 0: break
    case 1: precision.append("the teacher's as its cache has it")
    default: precision.append("the teachers' as their caches have them")
    }
  }

  /// Decides for the given processors, or for those of the ranks, and keeps to the settings of a checkpoint from which
  /// the run resumes. Every rank must call it.
  init(
    _ run: RunConfig, resuming checkpoint: Checkpoint? = nil, on processors: [RankProcessor]? = nil,
    over ranks: Communicator
  ) throws {
    let recorded = try checkpoint.map { try SavedRun($0).settings } ?? [:]
    let run = try run.keepingAlpha(recorded, over: ranks)
    guard run.precision == .auto || run.teachers.contains(where: { $0.precision == .auto }) else {
      self.init(run, on: [])
      return
    }
    self.init(run, on: try processors ?? RankProcessor.all(over: ranks), recorded: recorded)
    try ranks.requireSame("precision", precision.joined(separator: "\n"))
  }

  /// Decides for `kinship precompute`, where a teacher has a cache. A cache that was begun keeps its precision.
  init(precomputing run: RunConfig, on ranks: [RankProcessor], begun: ComputePrecision?) {
    self.run = run
    guard let teacher = run.teacher, teacher.precision == .auto else { return }
    let decision = PrecisionDecision(on: ranks).keeping(begun, of: "the cache", on: ranks)
    self.run.teacher?.precision = PrecisionChoice(decision.used)
    precision = ["the teacher's \(decision.text)"]
  }
}

extension RunConfig {
  /// Returns the run with the handling of transparency that its live teacher had in the run that it resumes, whose
  /// settings are `recorded` by their dotted paths, unless the run file names one now. If there are `ranks`, all must
  /// call it.
  func keepingAlpha(_ recorded: [String: String], over ranks: Communicator? = nil) throws -> RunConfig {
    guard usesTeacher, let teacher, teacher.cache == nil, teacher.image.alpha == nil, recorded["teacher.model"] != nil
    else { return self }
    var run = self
    if let word = recorded["teacher.image.alpha"] {
      run.teacher?.image.alpha = AlphaHandling(rawValue: word)
    } else {
      run.teacher?.image.alpha = try TeacherModel.earlierAlpha(teacher, over: ranks)
    }
    return run
  }

  fileprivate var teachers: [TeacherConfig] {
    guard let teacher, usesTeacher else { return [] }
    return [teacher] + teacher.ensemble.map(\.teacher)
  }
}
