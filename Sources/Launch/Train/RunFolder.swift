import Dist
import Foundation
import Settings

/// The folder of a run: `run.yaml` (the resolved run), `log.jsonl`, and `checkpoints`.
enum RunFolder {
  static let runFile = "run.yaml"
  static let checkpointFolder = "checkpoints"

  /// Returns the folder of the moving average of a run's weights in open_clip's form.
  static func average(of run: RunConfig) -> URL { run.folder.appending(path: "ema", directoryHint: .isDirectory) }

  /// Creates the run's folder and writes the resolved run file into it. Returns the changes of the run file since the
  /// run was last started, such as `optimizer.learning_rate: 0.001, was 0.0005`.
  ///
  /// - Throws: a `UserError`, with exit code 64 if the folder holds a run that is not resumed, and 74 if it cannot be
  ///   created.
  static func create(_ run: RunConfig, resuming: Bool) throws -> [String] {
    let files = FileManager.default
    let folder = run.folder
    let file = folder.appending(path: runFile)
    let holdsRun = [runFile, RunLog.fileName, checkpointFolder].contains {
      files.fileExists(atPath: folder.appending(path: $0).path)
    }
    if holdsRun, !resuming {
      throw UserError(
        nil,
        "\(folder.relativePath) holds a run already; go on with it (--resume latest), or start another (--set name=…)",
        status: .usage)
    }
    do {
      try files.createDirectory(at: folder.appending(path: checkpointFolder), withIntermediateDirectories: true)
      let before = resuming && files.fileExists(atPath: file.path) ? try String(contentsOf: file, encoding: .utf8) : nil
      try Data(run.yaml.utf8).write(to: file, options: .atomic)
      return before.map { differences(from: $0, to: run) } ?? []
    } catch {
      throw UserError(
        nil, "cannot make the run's folder \(folder.relativePath): \(error.systemReason); change output or name",
        status: .inputOutput)
    }
  }

  /// Does the same on rank 0 for all ranks. Every rank must call it; the folder exists when it returns.
  static func create(_ run: RunConfig, resuming: Bool, over ranks: Communicator) throws -> [String] {
    try ranks.broadcast { try create(run, resuming: resuming) }
  }

  private static func differences(from text: String, to run: RunConfig) -> [String] {
    guard let before = settings(text) else { return ["the run file it was last started with cannot be read"] }
    let after = run.tree.leaves
    return Set(before.keys).union(after.keys).sorted().compactMap { path in
      let (old, new) = (before[path] ?? "nothing", after[path] ?? "nothing")
      return old == new ? nil : "\(path): \(new), was \(old)"
    }
  }

  /// Returns the scalars of a resolved run file by their dotted paths; nil if it cannot be parsed.
  static func settings(_ yaml: String) -> [String: String]? {
    (try? RunNode.parse(yaml) { .file(runFile, line: $0, column: $1) })?.tree.leaves
  }
}

extension RunTree {
  /// The texts of all scalars by their dotted paths.
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
