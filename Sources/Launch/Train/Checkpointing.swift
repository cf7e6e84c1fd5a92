import Dist
import Foundation
import Model
import Tensor

/// Saves the state of a run in checkpoints, and restores it from them.
final class Checkpointing {
  private let run: RunConfig
  private let ranks: Communicator
  private let writer: BackgroundCheckpoints
  private var step: Step<Float>
  private var saved: SavedRun
  private var lastSave = ContinuousClock.now

  /// Every rank must call it.
  init(run: RunConfig, step: Step<Float>, teacher: SavedTeacher?, start: SavedStart?, ranks: Communicator) throws {
    (self.run, self.step, self.ranks) = (run, step, ranks)
    saved = try SavedRun(run, step.model.config, teacher: teacher, start: start)
    let config = run.checkpoint
    writer = try BackgroundCheckpoints(inBackground: config.background, over: ranks) { ranks in
      CheckpointWriter(
        runFolder: Self.folder(of: run), retention: .init(newest: config.keep, every: config.keepEvery),
        communicator: ranks)
    }
    writer.reserve(step.optimizer.firstMoment.count, averaged: step.hooks.average != nil)
  }

  private static func folder(of run: RunConfig) -> String {
    run.folder.appending(path: RunFolder.checkpointFolder).path(percentEncoded: false)
  }

  /// Saves and restores the model of another step from now on.
  func replaceStep(_ step: Step<Float>) throws {
    self.step = step
    saved = try SavedRun(run, step.model.config, teacher: saved.teacher, start: saved.start)
  }

  /// True if the last checkpoint is older than the run file allows. The ranks' clocks differ, so only rank 0 decides;
  /// on all others it is false.
  var isDue: Bool {
    guard ranks.rank == 0, let minutes = run.checkpoint.minutes else { return false }
    return (ContinuousClock.now - lastSave) / .seconds(60) >= minutes
  }

  /// Starts to write the state after `done` steps; the data are `passedOver` batches further. Every rank must call it.
  func save(after done: Int, passedOver: Int, _ log: RunLog) throws {
    lastSave = .now
    try step.waitForParameters()
    let optimizer = step.optimizer
    let masks = (step.hooks.pruning?.state ?? []).map {
      CheckpointRecord.Array(name: $0.name, shape: [$0.values.count], values: $0.values)
    }
    let averages = step.hooks.average.map { step.model.parameters.bufferArrays(averages: $0) } ?? []
    var record = try CheckpointRecord(
      step: done, samples: done * run.batch.global, run: saved.text,
      arrays: step.model.parameters.bufferArrays + averages + masks, version: Release.version, kernel: BLAS.kernel,
      threads: Threads.count)
    record.passedOver = passedOver > 0 ? passedOver : nil
    try writer.save(
      CheckpointState(
        entries: step.model.parameters.entries, values: step.model.parameters.values, ranges: optimizer.ranges,
        firstMoment: optimizer.firstMoment, secondMoment: optimizer.secondMoment, average: step.hooks.average?.values),
      record)
    try logFinished(log)
  }

  /// Logs the checkpoints that have been published since the last call. Throws the error of one that could not be
  /// written.
  func logFinished(_ log: RunLog) throws {
    for saved in try writer.finished() {
      try log.record(saved)
      for reason in saved.notRemoved { log.print("warning: \(reason)") }
    }
  }

  /// Waits until all checkpoints are published, and logs them. Every rank must call it before the job ends, and before
  /// it looks for the run's checkpoints.
  func finish(_ log: RunLog) throws {
    try writer.wait()
    try logFinished(log)
  }

  /// Fills model, optimizer, masks and moving average from a checkpoint, and returns the number of steps that it has
  /// done. `log` gets warnings and notes for the user.
  ///
  /// - Throws: a `UserError` (exit code 65) if the checkpoint has another vocabulary, teacher, objective or pruning.
  func restore(_ checkpoint: Checkpoint, log: (String) -> Void) throws -> Int {
    let before = try SavedRun(checkpoint)
    if before.vocabularySHA256 != saved.vocabularySHA256 {
      throw UserError(
        saved.vocabulary,
        "is not the vocabulary that \(checkpoint.folder) was trained with (\(before.vocabulary), "
          + "SHA-256 \(before.vocabularySHA256)): the same ids would mean other words")
    }
    try requireSameTeacher(before.teacher, checkpoint, log: log)
    let entries = step.model.parameters.entries
    try requireSameObjective(checkpoint)
    try checkpoint.readValues(entries, into: step.model.parameters.values, over: ranks)
    try step.model.parameters.readBuffers(from: checkpoint)
    try checkpoint.readMoments(
      entries, ranges: step.optimizer.ranges, first: step.optimizer.firstMoment, second: step.optimizer.secondMoment)
    try restoreAverage(checkpoint, log: log)
    let record = checkpoint.manifest.record
    // The optimizer restarts when the model is cut.
    let cut = Pruning(run).flatMap { $0.isCut(after: record.step) ? $0.config.step : nil }
    step.optimizer.step = record.step - (cut ?? 0)
    let arrays = Dictionary(record.arrays.map { ($0.name, $0.values) }) { first, _ in first }
    if let missing = step.hooks.pruning?.restore(arrays, step: record.step), !missing.isEmpty {
      throw UserError(
        checkpoint.folder,
        "does not hold the masks of this run: \(missing.prefix(3).joined(separator: "; "))"
          + "\(missing.count > 3 ? " and \(missing.count - 3) more" : ""); go on with the prune section "
          + "that it was trained with, or start another run")
    }
    warnOfOtherNumbers(checkpoint.manifest, log: log)
    return record.step
  }

  /// Warns if the resumed run will not compute the same numbers as the run that wrote the checkpoint.
  private func warnOfOtherNumbers(_ manifest: CheckpointManifest, log: (String) -> Void) {
    let record = manifest.record
    let differences = [
      record.kernel == BLAS.kernel ? nil : "the BLAS kernel was \(record.kernel) and is \(BLAS.kernel)",
      record.threads == Threads.count ? nil : "threads were \(record.threads) and are \(Threads.count)",
      manifest.ranks == ranks.size ? nil : "ranks were \(manifest.ranks) and are \(ranks.size)",
      record.samples == record.step * run.batch.global
        ? nil : "the global batch was \(record.samples / max(record.step, 1)) and is \(run.batch.global)",
    ].compactMap { $0 }
    if !differences.isEmpty {
      log("warning: going on will not give the same bits: " + differences.joined(separator: "; "))
    }
  }

  /// Restores the moving average. If the checkpoint has none, the average starts with the checkpoint's weights.
  private func restoreAverage(_ checkpoint: Checkpoint, log: (String) -> Void) throws {
    guard let average = step.hooks.average else {
      if checkpoint.manifest.isAveraged {
        log("warning: \(checkpoint.folder) holds an average of the weights, and this run keeps none: ema is none")
      }
      return
    }
    guard checkpoint.manifest.isAveraged else {
      log("\(checkpoint.folder) holds no average of the weights: ema begins with its weights")
      return average.begin()
    }
    let parameters = step.model.parameters
    try checkpoint.readAverage(parameters.entries, ranges: average.ranges, into: average.values)
    try parameters.readBuffers(from: checkpoint, averaged: true, into: average.bufferValues)
  }

  /// Refuses a checkpoint that was trained with another teacher: a run with one name must not mix two teachers.
  private func requireSameTeacher(_ before: SavedTeacher?, _ checkpoint: Checkpoint, log: (String) -> Void) throws {
    guard before?.weights != saved.teacher?.weights else { return }
    if let before, let now = saved.teacher {
      throw UserError(
        checkpoint.folder,
        "was trained with the teacher \(before.text), and teacher.model is \(now.text); go on with the "
          + "teacher that it had, or start another run")
    }
    log(
      "warning: \(checkpoint.folder) was trained \(before == nil ? "without" : "with") a teacher; this run goes on "
        + (before == nil ? "with one" : "without"))
  }

  /// Refuses a checkpoint whose objective has other parameters of its own, such as heads and scales.
  private func requireSameObjective(_ checkpoint: Checkpoint) throws {
    func own(_ names: [String]) -> Set<String> { Set(names.filter { NamedSlice.Owner(of: $0) == .objective }) }
    let before = own(checkpoint.manifest.parameters.map(\.name))
    let now = own(step.model.parameters.entries.map(\.name))
    guard before != now else { return }
    let differences = [("has", before.subtracting(now)), ("lacks", now.subtracting(before))].compactMap { word, names in
      names.isEmpty ? nil : "\(word) \(names.sorted().joined(separator: ", "))"
    }
    throw UserError(
      checkpoint.folder,
      "was trained with another objective: it \(differences.joined(separator: " and ")); go on with the "
        + "objective and the teacher that it had, or start another run")
  }

  /// Returns the checkpoint that `resume` asks for, or nil if the run starts anew. Every rank must call it.
  static func find(
    _ resume: Resume?, of run: RunConfig, over ranks: Communicator, log: (String) -> Void
  ) throws -> Checkpoint? {
    let folder = folder(of: run)
    switch resume {
    case nil: return nil
    case .path(let path): return try Checkpoint.open(TrainedModel.checkpoint(path), communicator: ranks)
    case .latest:
      let latest = folder + "/latest"
      guard FileManager.default.fileExists(atPath: latest) else {
        throw UserError(
          latest, "there is no checkpoint to go on from; leave --resume out, or take --resume auto",
          status: .inputOutput)
      }
      return try Checkpoint.open(latest, communicator: ranks)
    case .auto:
      let (found, unsound) = try Checkpoint.newestSound(in: folder, communicator: ranks)
      for error in unsound { log("warning: passed over: \(error)") }
      return found
    }
  }
}
