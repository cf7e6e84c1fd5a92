import Dist
import Foundation
import Model
import Tensor

/// Saves the state of a run in checkpoints, and restores it from them.
final class Checkpointing {
  private let run: RunConfig
  private let ranks: Communicator
  private let acceptsChanges: Bool
  private let arithmetic: [Arithmetic]
  private let writer: BackgroundCheckpoints
  private var step: Step<Float>
  private var saved: SavedRun
  private var lastSave = ContinuousClock.now

  /// Every rank must call it.
  init(_ inputs: TrainingInputs, step: Step<Float>, start: SavedStart?) throws {
    let (run, ranks) = (inputs.run, inputs.ranks)
    (self.run, self.step, self.ranks, acceptsChanges) = (run, step, ranks, inputs.acceptsChanges)
    arithmetic = inputs.arithmetic
    let teacher = inputs.ensemble.saved(with: inputs.cached?.saved ?? inputs.teacher?.saved)
    saved = try SavedRun(run, step.model.config, teacher: teacher, start: start, datasets: inputs.savedDatasets)
    let config = run.checkpoint
    writer = try BackgroundCheckpoints(inBackground: config.background, over: ranks) { ranks in
      CheckpointWriter(
        runFolder: Self.folder(of: run), retention: .init(newest: config.keep, every: config.keepEvery),
        communicator: ranks, node: try config.parts == .node ? ranks.node() : nil)
    }
    writer.reserve(step.optimizer.firstMoment.count, averaged: step.hooks.average != nil)
  }

  /// Returns the folder of a run's checkpoints.
  static func folder(of run: RunConfig) -> String {
    run.folder.appending(path: RunFolder.checkpointFolder).path(percentEncoded: false)
  }

  func replaceStep(_ step: Step<Float>) throws {
    self.step = step
    saved = try SavedRun(
      run, step.model.config, teacher: saved.teacher, start: saved.start, datasets: saved.datasets)
  }

  private var state: CheckpointState {
    let (parameters, optimizer) = (step.model.parameters, step.optimizer)
    return CheckpointState(
      entries: parameters.entries, values: parameters.values, ranges: optimizer.ranges,
      firstMoment: optimizer.firstMoment, secondMoment: optimizer.secondMoment, average: step.hooks.average?.values)
  }

  /// Compares the checkpoints of these steps with the free disk: throws a `UserError` (exit code 74) if not even one
  /// fits, and returns a warning if not all do that are kept. Every rank must call it.
  func checkSpace(_ steps: Range<Int>) throws -> String? {
    if steps.isEmpty { return nil }
    let bytes = try ranks.allReduce(state.byteBound)
    let space = try ranks.broadcast {
      try CheckpointSpace(
        in: Self.folder(of: run), bytes: bytes, count: run.checkpoint.most(in: steps, run.evaluate))
    }
    return try space.warning()
  }

  /// True on rank 0, whose clock alone counts, if the last checkpoint is older than the run file allows.
  var isDue: Bool {
    guard ranks.rank == 0, let minutes = run.checkpoint.minutes else { return false }
    return (ContinuousClock.now - lastSave) / .seconds(60) >= minutes
  }

  /// Starts to write the state after `done` steps; the data are `passedOver` batches further. Every rank must call it.
  func save(after done: Int, passedOver: Int, _ log: RunLog) throws {
    lastSave = .now
    try step.waitForParameters()
    let (parameters, average) = (step.model.parameters, step.hooks.average)
    let masks = (step.hooks.pruning?.state ?? []).map {
      CheckpointRecord.Array(name: $0.name, shape: [$0.values.count], values: $0.values)
    }
    var record = try CheckpointRecord(
      step: done, samples: done * run.batch.global, run: saved.text,
      arrays: parameters.bufferArrays + (average.map { parameters.bufferArrays(averages: $0) } ?? []) + masks,
      version: Release.version, kernel: BLAS.kernel, threads: Threads.count, arithmetic: arithmetic)
    record.passedOver = passedOver > 0 ? passedOver : nil
    record.route = routeText
    try writer.save(state, record)
    try logFinished(log)
  }

  /// Marks the checkpoint of a figure, which is written or being written, as the best; with nil, none. Every rank must
  /// call it.
  func mark(best figure: BestFigure?) throws { try writer.mark(best: figure) }

  /// Logs the checkpoints published since the last call. Throws the error of one that could not be written.
  func logFinished(_ log: RunLog) throws {
    for saved in try writer.finished() {
      try log.record(saved)
      for reason in saved.notRemoved { log.print("warning: \(reason)") }
    }
  }

  /// Publishes and logs all checkpoints. Every rank calls it before the job ends and before any is looked for.
  func finish(_ log: RunLog) throws {
    try writer.wait()
    try logFinished(log)
  }

  /// Restores a checkpoint and returns its number of steps; another vocabulary, teacher or objective throws exit code
  /// 65, and so do other datasets at the same paths, unless the run accepts changes.
  func restore(_ checkpoint: Checkpoint, log: (String) -> Void) throws -> Int {
    let before = try SavedRun(checkpoint)
    if before.vocabularySHA256 != saved.vocabularySHA256 {
      throw UserError(
        saved.vocabulary,
        "is not the vocabulary that \(checkpoint.folder) was trained with (\(before.vocabulary), "
          + "SHA-256 \(before.vocabularySHA256)), so the same ids would mean other words; set vocabulary to that one")
    }
    try requireSameDatasets(before.datasets ?? [], checkpoint, log: log)
    try requireSameTeacher(before.teacher, checkpoint, log: log)
    try requireSameObjective(checkpoint)
    try restoreState(checkpoint, log: log)
    let (record, optimizer) = (checkpoint.manifest.record, step.optimizer)
    // The optimizer restarts when the model is cut.
    optimizer.step = record.step - (Pruning(run).flatMap { $0.isCut(after: record.step) ? $0.config.step : nil } ?? 0)
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

  /// The way of the step's gradients and parameters in words; nil if it is the plain one.
  private var routeText: String? { step.sync.route.ofWeights(masked: step.hooks.pruning != nil).text }

  /// The words for a route that has none of its own.
  private static let plainRoute = "gradients in fp32, in one level"

  private func warnOfOtherNumbers(_ manifest: CheckpointManifest, log: (String) -> Void) {
    let record = manifest.record
    // Checkpoints of earlier builds have only the kernel.
    let hasSameKernel = record.arithmetic != nil || record.kernel == BLAS.kernel
    let differences = [
      arithmetic.difference(from: record.arithmetic),
      hasSameKernel ? nil : "the BLAS kernel was \(record.kernel) and is \(BLAS.kernel)",
      record.threads == Threads.count ? nil : "threads were \(record.threads) and are \(Threads.count)",
      manifest.ranks == ranks.size ? nil : "ranks were \(manifest.ranks) and are \(ranks.size)",
      record.route == routeText
        ? nil : "ranks exchanged \(record.route ?? Self.plainRoute) and exchange \(routeText ?? Self.plainRoute)",
      (Checked(record.step) * Checked(run.batch.global)).value == record.samples
        ? nil : "the global batch was \(record.samples / max(record.step, 1)) and is \(run.batch.global)",
    ].compactMap { $0 }
    guard !differences.isEmpty else { return }
    log(
      "warning: going on will not give the same bits as a run without interruption: "
        + differences.joined(separator: "; "))
  }

  /// Restores parameters, moments and the moving average, which starts with the checkpoint's weights if the checkpoint
  /// has none. Each rank reads the numbers that it owns, and gathers the others' parameters, unrounded: a rank
  /// opens the parts that hold its own, and with as many ranks as before only one.
  private func restoreState(_ checkpoint: Checkpoint, log: (String) -> Void) throws {
    let (parameters, optimizer, manifest) = (step.model.parameters, step.optimizer, checkpoint.manifest)
    let average = manifest.isAveraged ? step.hooks.average : nil
    let reads = try checkpoint.readState(
      parameters.entries, ranges: optimizer.ranges, values: parameters.values, first: optimizer.firstMoment,
      second: optimizer.secondMoment, average: average.map { ($0.ranges, $0.values) })
    try step.sync.gather(all: true, exactly: true)
    try step.waitForParameters()
    try parameters.readBuffers(from: checkpoint)
    if let average {
      try parameters.readBuffers(from: checkpoint, averaged: true, into: average.bufferValues)
    } else if let average = step.hooks.average {
      log("\(checkpoint.folder) holds no average of the weights: ema begins with its weights")
      average.begin()
    } else if manifest.isAveraged {
      log("warning: \(checkpoint.folder) holds an average of the weights, and this run keeps none: ema is none")
    }
    var most = [reads.parts, reads.bytes]
    try ranks.allReduce(&most, .maximum)
    log(
      "\(checkpoint.folder): a rank read \(Figures.bytes(most[1])) at most, from \(most[0]) of "
        + "\(Figures.count(manifest.parts.count, "part"))")
  }

  /// Refuses other datasets at the paths of those that the checkpoint knows. If the run file names other paths, the
  /// user has chosen other datasets.
  private func requireSameDatasets(_ before: [SavedDataset], _ checkpoint: Checkpoint, log: (String) -> Void) throws {
    let now = Dictionary((saved.datasets ?? []).map { ($0.path, $0.fingerprint) }) { first, _ in first }
    let changes = before.compactMap { dataset -> String? in
      guard let found = now[dataset.path], found != dataset.fingerprint else { return nil }
      return "\(dataset.path) (its fingerprint was \(dataset.fingerprint) and is \(found))"
    }
    guard !changes.isEmpty else { return }
    let text =
      "\(checkpoint.folder) was trained or evaluated on other data at the same path: "
      + changes.joined(separator: ", ")
    if acceptsChanges { return log("warning: \(text)") }
    throw UserError(
      "\(text); put back what was there, or say --accept-changes to go on with what is there now, or --resume fresh to "
        + "begin at step 0", isShared: true)
  }

  /// Refuses another teacher: a run with one name must not mix two.
  private func requireSameTeacher(_ before: SavedTeacher?, _ checkpoint: Checkpoint, log: (String) -> Void) throws {
    guard before?.weights != saved.teacher?.weights else { return }
    if let before, let now = saved.teacher {
      throw UserError(
        checkpoint.folder,
        "was trained with the teacher \(before.text), and teacher.model is \(now.text); go on with the "
          + "teacher that it had, or start another run")
    }
    let (was, goesOn) = before == nil ? ("without", "with one") : ("with", "without")
    log("warning: \(checkpoint.folder) was trained \(was) a teacher; this run goes on \(goesOn)")
  }

  /// Refuses a checkpoint whose objective has other parameters of its own, such as heads and scales.
  private func requireSameObjective(_ checkpoint: Checkpoint) throws {
    func own(_ names: [String]) -> Set<String> { Set(names.filter { NamedSlice.Owner(of: $0) == .objective }) }
    let before = own(checkpoint.manifest.parameters.map(\.name))
    let now = own(step.model.parameters.entries.map(\.name))
    guard before != now else { return }
    let differences = [("has", before.subtracting(now)), ("lacks", now.subtracting(before))]
      .filter { !$1.isEmpty }.map { "\($0) \($1.sorted().joined(separator: ", "))" }
    throw UserError(
      checkpoint.folder,
      "was trained with another objective: it \(differences.joined(separator: " and ")); go on with the "
        + "objective and the teacher that it had, or start another run")
  }

  /// Returns the checkpoint that `resume` asks for, or nil if the run starts anew. Throws a `UserError` (exit code 65)
  /// if a run with checkpoints has no sound one. Every rank must call it.
  static func find(
    _ resume: Resume?, of run: RunConfig, over ranks: Communicator, log: (String) -> Void
  ) throws -> Checkpoint? {
    let folder = folder(of: run)
    switch resume {
    case nil, .fresh: return nil
    case .path(let path): return try Checkpoint.open(TrainedModel.checkpoint(path), communicator: ranks)
    case .latest:
      let latest = folder + "/latest"
      guard try ranks.broadcast({ FileManager.default.fileExists(atPath: latest) }) else {
        throw UserError(
          latest, "there is no checkpoint to go on from; leave --resume out, or take --resume auto",
          status: .inputOutput)
      }
      return try Checkpoint.open(latest, communicator: ranks)
    case .auto:
      let (found, unsound) = try Checkpoint.newestSound(in: folder, communicator: ranks)
      guard found != nil || unsound.isEmpty else {
        throw UserError(
          folder,
          "holds no checkpoint that can be read; mend one, or say --resume fresh to set them aside and begin at step 0:"
            + unsound.map { "\n  \($0)" }.joined(), isShared: true)
      }
      for error in unsound { log("warning: passed over: \(error)") }
      return found
    }
  }
}
