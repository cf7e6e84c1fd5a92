import Dist
import Foundation
import Model
import Settings

/// The folder of a run: `run.yaml` (the resolved run), `log.jsonl`, and `checkpoints`.
enum RunFolder {
  static let runFile = "run.yaml"
  static let checkpointFolder = "checkpoints"
  /// Returns the folder of the moving average of a run's weights in open_clip's form.
  static func average(of run: RunConfig) -> URL { run.folder.appending(path: "ema", directoryHint: .isDirectory) }

  /// Creates the run's folder with its run file, and returns the changes since the last start, such as
  /// `optimizer.learning_rate: 0.001, was 0.0005`. Throws 64 if the folder holds a run that is not resumed, else 74.
  static func create(_ run: RunConfig, resuming: Bool) throws -> [String] {
    let (files, folder) = (FileManager.default, run.folder)
    let file = folder.appending(path: runFile)
    let holdsRun = [runFile, RunLog.fileName, checkpointFolder].contains {
      files.fileExists(atPath: folder.appending(path: $0).path)
    }
    if holdsRun, !resuming {
      throw UserError(
        "\(folder.relativePath) holds a run already; go on with it (--resume latest), or start another (--set name=…)",
        status: .usage)
    }
    return try making(folder) {
      try files.createDirectory(at: folder.appending(path: checkpointFolder), withIntermediateDirectories: true)
      let before = resuming && files.fileExists(atPath: file.path) ? try TextFile.read(file.path) : nil
      try Data(run.yaml.utf8).write(to: file, options: .atomic)
      return before.map { differences(from: $0, to: run) } ?? []
    }
  }

  private static func making<R>(_ folder: URL, _ body: () throws -> R) throws -> R {
    do { return try body() } catch {
      throw UserError(
        "cannot make the run's folder \(folder.relativePath): \(error.explanation); change output or name",
        status: .inputOutput)
    }
  }

  /// Keeps the run's folder for this job, if it exists. Every rank must call it, before anything is read from the
  /// folder.
  static func lock(_ run: RunConfig, over ranks: Communicator) throws -> FolderLock? {
    let exists = try ranks.broadcast { FileManager.default.fileExists(atPath: run.folder.relativePath) }
    return try exists ? FolderLock(run.folder.relativePath, over: ranks) : nil
  }

  /// Creates the folder on rank 0 for all ranks, which must all call it, and keeps it for this job. Then it exists.
  static func create(
    _ run: RunConfig, resuming: Bool, lock: inout FolderLock?, over ranks: Communicator
  ) throws -> [String] {
    // A run that another job has begun in the meantime is none that this one resumes.
    let isKnown = lock != nil
    if !isKnown {
      let path: String = try ranks.broadcast {
        try making(run.folder) {
          try FileManager.default.createDirectory(at: run.folder, withIntermediateDirectories: true)
          return run.folder.relativePath
        }
      }
      lock = try FolderLock(path, over: ranks)
    }
    return try ranks.broadcast { try create(run, resuming: resuming && isKnown) }
  }

  /// Renames the folder of a run's checkpoints, so that nothing resumes from them any more. Returns what the log says
  /// of it. Every rank must call it.
  static func setAside(_ run: RunConfig, over ranks: Communicator) throws -> String {
    try ranks.broadcast {
      let path = run.folder.appending(path: checkpointFolder).path(percentEncoded: false)
      let text = "begins at step 0, as --resume fresh says"
      let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
      if names.isEmpty { return text }
      var number = 1
      while FileManager.default.fileExists(atPath: "\(path).\(number)") { number += 1 }
      try Publish.rename(path, to: "\(path).\(number)")
      return "\(text); the earlier checkpoints are now in \(path).\(number)"
    }
  }

  /// Returns what the log tells of a run up to `step`, that of the checkpoint at a path, as
  /// `TrainedModel.checkpoint(_:)` understands it; nil if there is no log.
  static func history(of path: String, upTo step: Int) -> RunHistory? {
    let checkpoint = URL(filePath: TrainedModel.checkpoint(path), directoryHint: .isDirectory)
    let run = checkpoint.deletingLastPathComponent().deletingLastPathComponent()
    return try? LogReader.read(run.appending(path: RunLog.fileName), run: path).upTo(step)
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

/// The run as its checkpoints store it: enough to resume it, and to use its model without the run file.
struct SavedRun: Codable {
  /// The key of this description in the metadata of files that are made from a checkpoint.
  static let key = "kinship_run"
  var run: String
  /// The model's sizes in open_clip's JSON.
  var model: String
  var image: ImageOptions
  /// The vocabulary's path in the run file, and its checksum.
  var vocabulary: String
  var vocabularySHA256: String
  var teacher: SavedTeacher?
  /// The source of the initial weights; nil if all of them were drawn at random.
  var start: SavedStart?
  /// The datasets; nil in checkpoints of earlier releases.
  var datasets: [SavedDataset]?

  init(
    _ run: RunConfig, _ config: CLIPConfig, teacher: SavedTeacher?, start: SavedStart?, datasets: [SavedDataset]?
  ) throws {
    self.run = run.yaml
    model = String(decoding: try config.json, as: UTF8.self)
    image = run.image.sized(config.vision.imageSize)
    (vocabulary, vocabularySHA256) = (run.vocabulary, try SHA256.ofFile(run.vocabulary))
    (self.teacher, self.start, self.datasets) = (teacher, start, datasets)
  }

  init(_ checkpoint: Checkpoint) throws { try self.init(json: checkpoint.manifest.record.run, in: checkpoint.folder) }

  /// Reads the run from the metadata of a file made from a checkpoint; nil if the metadata has none.
  init?(in file: any NamedTensors) throws {
    guard let json = file.metadata[Self.key] else { return nil }
    try self.init(json: json, in: file.path)
  }

  private init(json: String, in path: String) throws {
    do { self = try JSONDecoder().decode(SavedRun.self, from: Data(json.utf8)) } catch {
      throw UserError(path, "its description of the run cannot be understood: \(error.explanation)")
    }
  }

  /// Returns the model's sizes; `path` is what holds this description, for errors.
  func config(in path: String) throws -> CLIPConfig {
    try ModelFiles.naming(path) { try CLIPConfig(json: Data(model.utf8)) }
  }

  var text: String { get throws { try jsonText() } }
  /// The scalars of the run file by their dotted paths; empty if it cannot be parsed.
  var settings: [String: String] { RunFolder.settings(run) ?? [:] }
  var name: String { settings["name"] ?? "" }

  /// Returns the vocabulary at `path`, or at the run's own path. Throws a `UserError` if it is not the vocabulary that
  /// the model was trained with.
  func readVocabulary(at path: String?) throws -> Vocabulary {
    let path = path ?? vocabulary
    guard FileManager.default.fileExists(atPath: path) else {
      throw UserError(
        path,
        "there is no such file; name the vocabulary that the model was trained with (SHA-256 \(vocabularySHA256)) "
          + "with --vocabulary", status: .inputOutput)
    }
    guard try SHA256.ofFile(path) == vocabularySHA256 else {
      throw UserError(
        path,
        "is not the vocabulary that the model was trained with (\(vocabulary), SHA-256 \(vocabularySHA256)); name "
          + "that one with --vocabulary")
    }
    return try Vocabulary(contentsOf: path)
  }
}

/// A dataset on which a run trains or evaluates, by its path in the run file.
struct SavedDataset: Codable, Equatable {
  var path: String
  var fingerprint: String
}

/// A run's teachers as its checkpoints store them.
struct SavedTeacher: Codable, Equatable {
  /// The path of the first teacher's weights in the run file, and their checksum.
  var path: String
  var sha256: String
  var ensemble: [SavedTeacher]?
  var all: [SavedTeacher] { [self] + (ensemble ?? []) }
  var weights: [String] { all.map(\.sha256) }
  var text: String { all.map { "\($0.path) (SHA-256 \($0.sha256))" }.joined(separator: " with ") }
}

/// The source of a run's initial weights as its checkpoints store it.
struct SavedStart: Codable, Equatable {
  /// The key under `init` that names the source.
  var key: String
  var path: String
  /// The checksum of the file of weights, of the list of its shards' checksums, or of a checkpoint's manifest.
  var sha256: String
}
