import Dist
import Foundation
import Model
import Tensor

/// What a checkpoint says of the run that made it: enough to go on, and enough to use the model without the run file.
struct SavedRun: Codable {
  /// The resolved run file.
  var run: String
  /// The model's sizes in open_clip's JSON.
  var model: String
  /// How images were prepared.
  var image: ImageOptions
  /// The vocabulary's path as the run file has it, and what is in it.
  var vocabulary: String
  var vocabularySHA256: String
  /// The model that the run learns from, if any.
  var teacher: SavedTeacher?
  /// With whose weights it began, where they were not all drawn.
  var start: SavedStart?

  /// The text of `CheckpointRecord.run`.
  var text: String {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
  }

  init(_ checkpoint: Checkpoint) throws {
    do {
      self = try JSONDecoder().decode(SavedRun.self, from: Data(checkpoint.manifest.record.run.utf8))
    } catch {
      throw UserError(
        path: checkpoint.folder, status: .badData, reason: "its manifest does not say of which run it is: \(error)")
    }
  }

  init(_ run: RunConfig, _ config: CLIPConfig, teacher: SavedTeacher?, start: SavedStart?) throws {
    self.run = run.yaml
    model = String(decoding: try config.json, as: UTF8.self)
    image = run.image.sized(config.vision.imageSize)
    vocabulary = run.vocabulary
    vocabularySHA256 = try Self.sha256(of: run.vocabulary)
    self.teacher = teacher
    self.start = start
  }

  static func sha256(of path: String) throws -> String {
    do {
      let file = try FileHandle(forReadingFrom: URL(filePath: path))
      defer { try? file.close() }
      var hasher = SHA256()
      // Files of weights are larger than a rank's memory may be.
      while let piece = try file.read(upToCount: 1 << 20), !piece.isEmpty { hasher.update(piece) }
      return hasher.finalize().hexadecimal
    } catch {
      throw UserError(
        path: path, status: .inputOutput, reason: (error as NSError).localizedFailureReason ?? "\(error)")
    }
  }
}

/// Tells when a checkpoint is due by time.
final class CheckpointClock {
  private let interval: Double?
  private var start = ContinuousClock.now

  init(minutes: Double?) { interval = minutes.map { 60 * $0 } }

  var isDue: Bool { interval.map { (ContinuousClock.now - start) / .seconds(1) >= $0 } ?? false }

  func restart() { start = .now }
}

/// Saves and restores a run.
struct Checkpoints {
  let run: RunConfig
  let saved: SavedRun
  let step: Step<Float>
  let ranks: Communicator
  private let writing: BackgroundCheckpoints
  private let clock: CheckpointClock

  /// Every rank must call it.
  init(run: RunConfig, step: Step<Float>, teacher: SavedTeacher?, start: SavedStart?, ranks: Communicator) throws {
    self.run = run
    self.step = step
    self.ranks = ranks
    saved = try SavedRun(run, step.model.config, teacher: teacher, start: start)
    let keep = run.checkpoint
    writing = try BackgroundCheckpoints(inBackground: keep.background, over: ranks) { ranks in
      CheckpointWriter(
        runFolder: Self.folder(of: run), retention: .init(newest: keep.keep, every: keep.keepEvery),
        communicator: ranks)
    }
    writing.reserve(step.optimizer.firstMoment.count, averaged: step.hooks.average != nil)
    clock = CheckpointClock(minutes: ranks.rank == 0 ? keep.minutes : nil)
  }

  private init(_ other: Checkpoints, _ step: Step<Float>) throws {
    run = other.run
    self.step = step
    ranks = other.ranks
    saved = try SavedRun(run, step.model.config, teacher: other.saved.teacher, start: other.saved.start)
    writing = other.writing
    clock = other.clock
  }

  private static func folder(of run: RunConfig) -> String {
    run.folder.appending(path: RunFolder.checkpointFolder).path(percentEncoded: false)
  }

  /// The same for another model, which stands in for this one from here on.
  func of(_ step: Step<Float>) throws -> Checkpoints { try Checkpoints(self, step) }

  /// Whether so much time has gone by that a checkpoint is due; rank 0 alone knows.
  var isDue: Bool { clock.isDue }

  /// Begins to write the state after `done` steps, which the data are `passedOver` batches ahead of. Every rank must
  /// call it.
  func save(_ done: Int, passedOver: Int, _ log: RunLog) throws {
    clock.restart()
    try step.waitForParameters()
    let optimizer = step.optimizer
    let masks = (step.hooks.pruning?.state ?? []).map {
      CheckpointRecord.Array(name: $0.name, shape: [$0.values.count], values: $0.values)
    }
    let averages = step.hooks.average.map { step.model.parameters.bufferArrays(averages: $0) } ?? []
    try writing.save(
      CheckpointState(
        entries: step.model.parameters.entries, values: step.model.parameters.values,
        ranges: optimizer.ranges,
        firstMoment: optimizer.firstMoment, secondMoment: optimizer.secondMoment, average: step.hooks.average?.values),
      CheckpointRecord(
        step: done, samples: done * run.batch.global, passedOver: passedOver > 0 ? passedOver : nil, run: saved.text,
        arrays: step.model.parameters.bufferArrays + averages + masks, version: Release.version, kernel: BLAS.kernel,
        threads: Threads.count))
    try logFinished(log)
  }

  /// Logs what has been written meanwhile; throws what has gone wrong.
  func logFinished(_ log: RunLog) throws {
    for saved in try writing.finished() {
      try log.record(saved)
      for reason in saved.notRemoved { log.print("warning: \(reason)") }
    }
  }

  /// Waits until everything is written, and logs it. Every rank must call it before the job ends, and before it looks
  /// for checkpoints of its own.
  func finish(_ log: RunLog) throws {
    try writing.wait()
    try logFinished(log)
  }

  /// Fills model, optimizer and masks from a checkpoint; returns the steps it has done. `say` gets what the user should
  /// know.
  func restore(_ checkpoint: Checkpoint, log: (String) -> Void) throws -> Int {
    let before = try SavedRun(checkpoint)
    if before.vocabularySHA256 != saved.vocabularySHA256 {
      throw UserError(
        path: saved.vocabulary, status: .badData,
        reason: "is not the vocabulary that \(checkpoint.folder) was trained with (\(before.vocabulary), "
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
    // The optimizer begins anew when the model is cut.
    let cut = Pruning(run).flatMap { $0.isCut(after: record.step) ? $0.config.step : nil }
    step.optimizer.step = record.step - (cut ?? 0)
    let arrays = Dictionary(record.arrays.map { ($0.name, $0.values) }) { first, _ in first }
    if let missing = step.hooks.pruning?.restore(arrays, step: record.step), !missing.isEmpty {
      throw UserError(
        path: checkpoint.folder, status: .badData,
        reason: "does not hold the masks of this run: \(missing.prefix(3).joined(separator: "; "))"
          + "\(missing.count > 3 ? " and \(missing.count - 3) more" : ""); go on with the prune section "
          + "that it was trained with, or start another run")
    }
    let differences = [
      record.kernel == BLAS.kernel ? nil : "the BLAS kernel was \(record.kernel) and is \(BLAS.kernel)",
      record.threads == Threads.count ? nil : "threads were \(record.threads) and are \(Threads.count)",
      checkpoint.manifest.ranks == ranks.size
        ? nil : "ranks were \(checkpoint.manifest.ranks) and are \(ranks.size)",
      record.samples == record.step * run.batch.global
        ? nil : "the global batch was \(record.samples / max(record.step, 1)) and is \(run.batch.global)",
    ].compactMap { $0 }
    if !differences.isEmpty {
      log("warning: going on will not give the same bits: " + differences.joined(separator: "; "))
    }
    return record.step
  }

  /// An average that the checkpoint does not hold begins with its weights.
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

  /// What a student has learned from one teacher it does not go on to learn from another under the same name.
  private func requireSameTeacher(_ before: SavedTeacher?, _ checkpoint: Checkpoint, log: (String) -> Void) throws {
    guard before?.weights != saved.teacher?.weights else { return }
    if let before, let now = saved.teacher {
      throw UserError(
        path: checkpoint.folder, status: .badData,
        reason: "was trained with the teacher \(before.text), and teacher.model is \(now.text); go on with the "
          + "teacher that it had, or start another run")
    }
    log(
      "warning: \(checkpoint.folder) was trained \(before == nil ? "without" : "with") a teacher; this run goes on "
        + (before == nil ? "with one" : "without"))
  }

  /// Heads and scales that terms learn are part of the state: a run cannot go on with others.
  private func requireSameObjective(_ checkpoint: Checkpoint) throws {
    func own(_ names: [String]) -> Set<String> { Set(names.filter { NamedSlice.Owner(of: $0) == .objective }) }
    let before = own(checkpoint.manifest.parameters.map(\.name))
    let now = own(step.model.parameters.entries.map(\.name))
    guard before != now else { return }
    let differences = [("has", before.subtracting(now)), ("lacks", now.subtracting(before))].compactMap { word, names in
      names.isEmpty ? nil : "\(word) \(names.sorted().joined(separator: ", "))"
    }
    throw UserError(
      path: checkpoint.folder, status: .badData,
      reason: "was trained with another objective: it \(differences.joined(separator: " and ")); go on with the "
        + "objective and the teacher that it had, or start another run")
  }

  /// The checkpoint that `resume` asks for; nil where there is nothing to go on from. Every rank must call it.
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
          path: latest, status: .inputOutput,
          reason: "there is no checkpoint to go on from; leave --resume out, or take --resume auto")
      }
      return try Checkpoint.open(latest, communicator: ranks)
    case .auto:
      let (found, unsound) = try Checkpoint.newestSound(in: folder, communicator: ranks)
      for error in unsound { log("warning: passed over: \(error)") }
      return found
    }
  }
}
