import Dist
import Foundation
import Model
import Tensor

/// A model from a checkpoint of ours, with what it takes to use it.
struct TrainedModel {
  let model: CLIP<Float>
  let saved: SavedRun
  /// The steps it was trained for.
  let step: Int

  /// Opens a checkpoint's folder, or a run's folder, whose latest checkpoint then counts; `averaged` takes the moving
  /// average of the weights. Every rank must call it.
  init(_ path: String, averaged: Bool = false, over communicator: Communicator) throws {
    let checkpoint = try Checkpoint.open(Self.checkpoint(path), communicator: communicator)
    saved = try SavedRun(checkpoint)
    model = CLIP(try CLIPConfig(json: Data(saved.model.utf8)), frozen: true)
    try model.read(checkpoint, averaged: averaged, over: communicator)
    step = checkpoint.manifest.record.step
  }

  /// A file of weights that was made from a checkpoint, and says so; nil where it does not.
  init?(merged path: String) throws {
    let file = try WeightsFile.open(path)
    guard let run = try SavedRun(in: file), let record = file.metadata[MergeRecord.key] else { return nil }
    saved = run
    do {
      step = try JSONDecoder().decode(MergeRecord.self, from: Data(record.utf8)).step
    } catch {
      throw ModelFileError(path: path, exitCode: 65, reason: "what it says of its run is not understood: \(error)")
    }
    model = CLIP(try CLIPConfig(json: Data(saved.model.utf8)), frozen: true)
    try ModelFiles.read(path, into: model)
  }

  /// The vocabulary at `path`, or where the run had it; it must be the one that the model was trained with.
  func vocabulary(at path: String?) throws -> Vocabulary {
    let path = path ?? saved.vocabulary
    guard try SavedRun.sha256(of: path) == saved.vocabularySHA256 else {
      throw ModelFileError(
        path: path, exitCode: 65,
        reason: "is not the vocabulary that the model was trained with (\(saved.vocabulary), SHA-256 "
          + "\(saved.vocabularySHA256)); name that one with --vocabulary")
    }
    return try Vocabulary(contentsOf: path)
  }

  /// A checkpoint's folder as it is; of a run's folder the checkpoint that is marked as its latest.
  static func checkpoint(_ path: String) -> String {
    let latest = URL(filePath: path).appending(path: RunFolder.checkpointFolder).appending(path: "latest")
    return FileManager.default.fileExists(atPath: latest.path) ? latest.path(percentEncoded: false) : path
  }
}

extension SavedRun {
  /// The run of whose checkpoint a file of weights was made; nil where it does not say.
  init?(in file: any NamedTensors) throws {
    guard let text = file.metadata[Self.key] else { return nil }
    do {
      self = try JSONDecoder().decode(SavedRun.self, from: Data(text.utf8))
    } catch {
      throw ModelFileError(path: file.path, exitCode: 65, reason: "what it says of its run is not understood: \(error)")
    }
  }
}

extension CLIP<Float> {
  /// The model's own parameters, without the objective's, in the words of checkpoints.
  private var checkpointEntries: [CheckpointEntry] {
    entries.map { CheckpointEntry(name: $0.name, shape: $0.shape, offset: $0.offset) }
  }

  /// Fills parameters and buffers from a checkpoint; what the objective of its run has learned beside them is left.
  /// Every rank must call it.
  func read(_ checkpoint: Checkpoint, averaged: Bool = false, over communicator: Communicator) throws {
    try checkpoint.readValues(
      checkpointEntries, into: parameters.values, over: communicator, leaving: Objective<Float>.prefix,
      averaged: averaged)
    try parameters.readBuffers(from: checkpoint, averaged: averaged)
  }

  /// The same, or only these parts of the parameters, on this rank alone.
  func read(_ checkpoint: Checkpoint, ranges: [Range<Int>]? = nil) throws {
    for range in ranges ?? [0..<parameters.count] {
      try checkpoint.readValues(
        checkpointEntries, range: range, into: parameters.values.slice(range), leaving: Objective<Float>.prefix)
    }
    try parameters.readBuffers(from: checkpoint)
  }
}
