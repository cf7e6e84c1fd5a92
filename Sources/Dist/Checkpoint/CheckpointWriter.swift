internal import Foundation
internal import Tensor

/// The rule by which older checkpoints of a run remain after a new one is published.
public struct CheckpointRetention: Sendable, Equatable {
  /// The number of the newest checkpoints that remain; nil keeps all.
  public var newest: Int?
  /// If not nil, checkpoints whose step is a multiple of this also remain.
  public var every: Int?

  public init(newest: Int?, every: Int? = nil) {
    precondition(newest ?? 1 > 0 && every ?? 1 > 0, "at least the newest checkpoint is kept")
    (self.newest, self.every) = (newest, every)
  }

  func kept(of steps: [Int]) -> Set<Int> {
    let newest = steps.sorted(by: >).prefix(newest ?? .max)
    return Set(newest).union(steps.filter { step in every.map { step % $0 == 0 } ?? false })
  }
}

/// Writes the checkpoints of one run: folders with one part for each rank, or for each node, and a manifest. Each is
/// written under another name, synced and read back before it is renamed, so a folder named `step-…` is complete,
/// whenever the job dies.
public struct CheckpointWriter: Sendable {
  /// The points in a write at which a test can intervene.
  package enum Stage: String, Sendable { case partWritten, manifestWritten, renamed, published }

  public let runFolder: String
  public let retention: CheckpointRetention
  private let communicator: Communicator
  /// The ranks that write one part together; nil: each rank writes one.
  private let node: Communicator?
  private var folders: CheckpointFolders { CheckpointFolders(run: runFolder) }
  /// Returns the free bytes on the file system of a path. Tests replace it.
  package var available: @Sendable (String) throws(FileError) -> Int = Publish.available(at:)
  /// Is called at every stage. Tests replace it.
  package var reached: @Sendable (Stage) -> Void = { _ in }

  public init(
    runFolder: String, retention: CheckpointRetention, communicator: Communicator, node: Communicator? = nil
  ) {
    (self.runFolder, self.retention, self.communicator, self.node) = (runFolder, retention, communicator, node)
  }

  /// Writes `step-STEP`, marks it `latest`, and removes older ones. Every rank must call it. Throws a `CheckpointError`
  /// (exit code 74) or `MPIError`. Rank 0 also returns the errors of folders that it could not remove.
  public func write(
    _ state: CheckpointState, _ record: CheckpointRecord
  ) throws -> (folder: String, notRemoved: [String]) {
    let target = folders.path(folders.name(record.step))
    let partial = folders.partial(record.step)
    // Ranks may write for minutes, and other threads need their cores meanwhile.
    try communicator.patientBarrier()
    let file = try partFile()
    let held = try held(state)
    let part = state.part("\(partial)/\(file)", holding: held)
    let bound = try communicator.allReduce(state.byteBound)
    if communicator.rank == 0 { try CheckpointError.naming(target) { try prepare(partial, bytes: bound) } }
    try communicator.patientBarrier()
    let written = try CheckpointError.naming(target) {
      let written = try part.write(over: node)
      try Publish.sync(folder: partial)
      return written
    }
    reached(.partWritten)
    let own = [written].compactMap { $0 }.map {
      CheckpointManifest.Part(file: file, ranges: state.positions(held), bytes: $0.bytes, sha256: $0.sha256)
    }
    try communicator.patientBarrier()
    // All ranks' ranges are many: each has some in every bucket.
    let parts = try communicator.gather(own)?.flatMap { $0 }
    var notRemoved: [String] = []
    if let parts {
      notRemoved = try CheckpointError.naming(target) {
        let manifest = CheckpointManifest(
          format: CheckpointManifest.currentFormat, record: record,
          parameters: state.entries.map { .init(name: $0.name, shape: $0.shape.array) },
          parts: parts, ema: state.average == nil ? nil : true, jobRanks: node == nil ? nil : communicator.size)
        if let problem = manifest.problem { preconditionFailure("the ranks' ranges of the arena: \(problem)") }
        try manifest.write(into: partial)
        reached(.manifestWritten)
        try folders.publish(record.step) { reached(.renamed) }
        reached(.published)
        return folders.prune(behind: record.step, retention)
      }
    }
    try communicator.patientBarrier()
    return (target, notRemoved)
  }

  /// Marks a checkpoint `best` in place of an earlier one, or with nil none, and removes what the retention then no
  /// longer keeps. Only rank 0 acts. Throws a `CheckpointError` (exit code 74).
  public func mark(best figure: BestFigure?) throws(CheckpointError) {
    guard communicator.rank == 0 else { return }
    try CheckpointError.naming(folders.path(CheckpointFolders.best)) { try folders.mark(best: figure) }
    if let figure { _ = folders.prune(behind: figure.step, retention) }
  }

  /// Returns the name of this rank's part. Nodes are numbered by their first ranks.
  private func partFile() throws -> String {
    guard let node else { return CheckpointManifest.partFile(communicator.rank, of: communicator.size) }
    let first = try node.broadcast { communicator.rank }
    let all = Set(try communicator.allGather(first))
    return CheckpointManifest.partFile(all.count(where: { $0 < first }), of: all.count)
  }

  /// Returns the ranges of the arena that this rank's part holds.
  private func held(_ state: CheckpointState) throws -> [Range<Int>] {
    guard let node else { return state.ranges }
    let all = try node.allGather(state.ranges).joined().filter { !$0.isEmpty }
    return all.sorted { $0.lowerBound < $1.lowerBound }.reduce(into: []) { $0.appendJoining($1) }
  }

  private func prepare(_ partial: String, bytes: Int) throws(FileError) {
    try Publish.makeFolder(runFolder)
    try Publish.requireSpace(bytes, at: runFolder, for: partial, available: available)
    try Publish.removeAll(partial)
    try Publish.makeFolder(partial)
  }
}

/// The figure by which a checkpoint is the best of its run, as `best.json` beside its manifest holds it.
public struct BestFigure: Codable, Hashable, Sendable {
  static let file = "best.json"
  /// The evaluation and its figure, as the run file may name them.
  public let metric: String
  public let step: Int
  public let value: Double

  public init(metric: String, step: Int, value: Double) {
    (self.metric, self.step, self.value) = (metric, step, value)
  }

  /// Returns what to add to a message that nothing is at `path`: the reason if it stands for a best checkpoint.
  package static func advice(where path: String) -> String {
    URL(filePath: path).lastPathComponent == CheckpointFolders.best
      ? "; a run keeps its best checkpoint if evaluate.keep_best names a figure" : ""
  }

  /// Reads the figure of the checkpoint that is marked `best` in a run's folder of checkpoints; nil if there is none.
  public static func marked(in runFolder: String) -> BestFigure? {
    let path = "\(CheckpointFolders(run: runFolder).path(CheckpointFolders.best))/\(file)"
    return (try? OpenFile.contents(path)).flatMap { try? JSONDecoder().decode(BestFigure.self, from: Data($0)) }
  }
}

/// The folders of a run's checkpoints, named by their step, and the links `latest` and `best`.
struct CheckpointFolders {
  static let latest = "latest"
  static let best = "best"
  let run: String
  func name(_ step: Int) -> String { "step-\(step.digits(8))" }
  func path(_ name: String) -> String { "\(run)/\(name)" }
  /// Returns the path of a checkpoint that is being written. It is never read.
  func partial(_ step: Int) -> String { path("\(name(step)).partial") }
  /// Returns the path of a checkpoint that another of the same step is about to replace. It can be read until then.
  func replaced(_ step: Int) -> String { path("\(name(step)).replaced") }

  private func all() -> [(step: Int, name: String, suffix: String)] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: run)) ?? []
    return names.compactMap { name in
      let match = name.wholeMatch(of: /step-([0-9]{8,})(|\.partial|\.replaced)/)
      guard let match, let step = Int(match.1) else { return nil }
      return (step, name, String(match.2))
    }
  }

  /// Returns the names of the checkpoints to resume from, best first: the one marked `latest`, then by falling step.
  func candidates() -> [String] {
    let complete = all().filter { $0.suffix != ".partial" }
    let falling = complete.sorted { ($1.step, $0.suffix) < ($0.step, $1.suffix) }.map(\.name)
    let marked = target(of: Self.latest)
    // If none is left, the one that was marked is missed: the run would begin anew without a word.
    if falling.isEmpty, let marked { return [marked] }
    return falling.filter { $0 == marked } + falling.filter { $0 != marked }
  }

  /// Returns the name of the checkpoint to which a link leads; nil if there is no such link.
  private func target(of link: String) -> String? {
    try? FileManager.default.destinationOfSymbolicLink(atPath: path(link))
  }

  /// Moves the link `best` to the checkpoint of a figure, which is written there first, or removes it. At every moment
  /// the link leads to a checkpoint with its figure.
  func mark(best figure: BestFigure?) throws {
    guard let figure else { return try Publish.removeAll(path(Self.best)) }
    let (before, now) = (target(of: Self.best), name(figure.step))
    try Publish.write(json: figure, to: "\(path(now))/\(BestFigure.file)")
    try Publish.link(path(Self.best), to: now)
    if let before, before != now { try Publish.removeAll("\(path(before))/\(BestFigure.file)") }
  }

  /// Renames the finished folder and marks it `latest`. At every moment `candidates` finds a complete checkpoint.
  func publish(_ step: Int, renamed: () -> Void) throws(FileError) {
    let target = path(name(step))
    if FileManager.default.fileExists(atPath: target) {
      try Publish.removeAll(replaced(step))
      try Publish.rename(target, to: replaced(step))
    }
    try Publish.rename(partial(step), to: target)
    renamed()
    try Publish.link(path(Self.latest), to: name(step))
  }

  /// Removes what the retention does not keep up to `step`; later steps are another branch of the run. The checkpoint
  /// that is marked `best` remains beside those that the retention counts. Returns errors.
  func prune(behind step: Int, _ retention: CheckpointRetention) -> [String] {
    let best = target(of: Self.best)
    let past = all().filter { $0.step <= step && $0.name != best }
    let kept = retention.kept(of: past.filter { $0.suffix.isEmpty }.map(\.step))
    var left: [String] = []
    for item in past where !item.suffix.isEmpty || !kept.contains(item.step) {
      do throws(FileError) {
        // The manifest goes first: without it, a half-removed folder is no checkpoint.
        try Publish.removeAll("\(path(item.name))/\(CheckpointManifest.file)")
        try Publish.removeAll(path(item.name))
      } catch { left.append("\(error)") }
    }
    return left
  }
}
