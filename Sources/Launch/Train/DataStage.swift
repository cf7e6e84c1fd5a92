import Dist
import Foundation

/// The copies of a run's shards and teacher caches on the nodes' own disks (`data.stage`).
struct DataStage {
  /// The header's line about them.
  let text: String

  /// Copies them, and has the datasets and caches read from the copies; without `copying` it only says how much there
  /// is. The result is nil if the run stages nothing. Every rank must call it. Throws `StopRequest.Interruption` if the
  /// run is to stop.
  init?(
    _ config: DataConfig, _ data: inout TrainingData, _ caches: [CachedTeacher], copying: Bool,
    over ranks: Communicator
  ) throws {
    guard let path = config.stage else { return nil }
    let sources = data.datasets.map(\.source) + caches.flatMap(\.sources)
    let size = Figures.bytes(sources.reduce(0) { $0 + $1.bytes })
    guard copying else {
      text = "\(size) to \(path) on each node"
      return
    }
    let begin = ContinuousClock.now
    func seconds() -> Double { max((ContinuousClock.now - begin) / .seconds(1), 1e-3) }
    func rate(_ bytes: Int) -> String { "\(Figures.bytes(Int(Double(bytes) / seconds())))/s" }
    var shown = 0.0
    let staging = try Staging(
      sources, to: { try Self.folder(path, ProcessInfo.processInfo.environment, host: ranks.hostname) }, over: ranks,
      pause: { done, all in
        try StopRequest.check(over: ranks)
        guard ranks.rank == 0, seconds() >= shown + 10 else { return }
        shown = seconds()
        StandardOutput.show("stage: \(Figures.bytes(done)) of \(Figures.bytes(all)), \(rate(done))")
      })
    let copied = "\(Figures.bytes(staging.copied)) copied in \(Figures.duration(seconds())), \(rate(staging.copied))"
    text = "\(size) to \(path) on \(Figures.count(staging.nodes, "node")): \(copied)"
    let folders = staging.folders
    data = data.reading(from: Array(folders.prefix(data.datasets.count)))
    var rest = folders.dropFirst(data.datasets.count)
    for cache in caches {
      cache.read(from: Array(rest.prefix(cache.sources.count)))
      rest = rest.dropFirst(cache.sources.count)
    }
  }

  /// Returns the folder `data.stage`, in which an environment variable in front of the first slash has its value on
  /// this host. Throws a `UserError` (exit code 64) if it has none.
  static func folder(_ path: String, _ environment: [String: String], host: String) throws -> String {
    guard path.hasPrefix("$") else { return path }
    let name = path.dropFirst().prefix { $0 != "/" }
    guard name.wholeMatch(of: /[A-Za-z_][A-Za-z0-9_]*/) != nil else {
      throw UserError(
        "data.stage",
        "is \(path): expected a variable's name of letters, digits and underscores after $, without braces, up to the "
          + "first slash", status: .usage)
    }
    guard let value = environment[String(name)], !value.isEmpty else {
      throw UserError(
        "data.stage",
        "is \(path), and the environment on \(host) has no \(name): set it there (mpirun passes a variable on with "
          + "-x \(name)), or name the folder itself", status: .usage)
    }
    return value + path.dropFirst(1 + name.count)
  }
}
