import Dist
import Foundation
import Settings

/// The folder of a run: `run.yaml` (the resolved run), `log.jsonl`, and `checkpoints`.
struct RunFolder: Sendable {
  static let runFile = "run.yaml"
  static let checkpointFolder = "checkpoints"

  /// Where the average of a run's weights lies in open_clip's form.
  static func average(of run: RunConfig) -> URL { run.folder.appending(path: "ema", directoryHint: .isDirectory) }

  let url: URL
  /// What a resumed run changes in the run file that it was last started with: `optimizer.learning_rate: 0.001, was
  /// 0.0005`.
  let changes: [String]

  var checkpoints: URL { url.appending(path: Self.checkpointFolder, directoryHint: .isDirectory) }

  /// Makes the run's folder and writes the resolved run into it. A folder that holds a run already is refused unless
  /// that run is resumed. Every rank must call it; rank 0 acts, and the folder is there when it returns.
  static func prepare(_ run: RunConfig, resuming: Bool, over ranks: Communicator) throws -> RunFolder {
    RunFolder(url: run.folder, changes: try ranks.broadcast { try create(run, resuming: resuming) })
  }

  /// Makes the folder; returns what the run file changes against the one that was there.
  static func create(_ run: RunConfig, resuming: Bool) throws -> [String] {
    let files = FileManager.default
    let folder = run.folder
    let file = folder.appending(path: runFile)
    let holdsRun = [runFile, RunLog.fileName, checkpointFolder].contains {
      files.fileExists(atPath: folder.appending(path: $0).path)
    }
    if holdsRun, !resuming { throw RunFolderTaken(path: folder.relativePath) }
    do {
      try files.createDirectory(
        at: folder.appending(path: checkpointFolder), withIntermediateDirectories: true)
      let before = resuming && files.fileExists(atPath: file.path) ? try String(contentsOf: file, encoding: .utf8) : nil
      try Data(run.yaml.utf8).write(to: file, options: .atomic)
      return before.map { differences(from: $0, to: run) } ?? []
    } catch {
      throw RunFolderFailure(
        path: folder.relativePath, reason: (error as NSError).localizedFailureReason ?? "\(error)")
    }
  }

  private static func differences(from text: String, to run: RunConfig) -> [String] {
    let place = { Place.file(runFile, line: $0, column: $1) }
    guard let before = try? RunNode.parse(text, place: place).tree.leaves else {
      return ["the run file it was last started with cannot be read"]
    }
    let after = run.tree.leaves
    return Set(before.keys).union(after.keys).sorted().compactMap { path in
      let (old, new) = (before[path] ?? "nothing", after[path] ?? "nothing")
      return old == new ? nil : "\(path): \(new), was \(old)"
    }
  }
}

extension RunTree {
  /// The text of every scalar by its dotted path.
  var leaves: [String: String] {
    var found: [String: String] = [:]
    func walk(_ tree: RunTree, _ path: String) {
      switch tree {
      case .scalar(let text, _): found[path] = text
      case .list(let values): for (index, value) in values.enumerated() { walk(value, RunNode.join(path, "\(index)")) }
      case .section(let entries): for entry in entries { walk(entry.value, RunNode.join(path, entry.key)) }
      }
    }
    walk(self, "")
    return found
  }
}

/// A new run would write over an old one.
struct RunFolderTaken: ExitCoded, CustomStringConvertible {
  var path: String

  var status: ExitStatus { .usage }
  var description: String {
    "\(path) holds a run already; go on with it (--resume latest), or start another (--set name=…)"
  }
}

/// The run's folder cannot be made or written to.
struct RunFolderFailure: ExitCoded, CustomStringConvertible {
  var path: String
  var reason: String

  var status: ExitStatus { .inputOutput }
  var description: String { "cannot make the run's folder \(path): \(reason); change output or name" }
}
