import Dist
import Foundation
import Model
import Tensor

/// A model from one of our checkpoints, with the run that trained it.
struct TrainedModel {
  let model: CLIP<Float>
  let saved: SavedRun
  /// The number of steps that it was trained for.
  let step: Int

  /// Reads the checkpoint in a folder, or the latest checkpoint of a run's folder; with `averaged`, the moving average
  /// of its weights. Every rank must call it.
  init(_ path: String, averaged: Bool = false, over communicator: Communicator) throws {
    let checkpoint = try Checkpoint.open(Self.checkpoint(path), communicator: communicator)
    saved = try SavedRun(checkpoint)
    model = CLIP(try CLIPConfig(json: Data(saved.model.utf8)), frozen: true)
    try model.read(checkpoint, averaged: averaged, over: communicator)
    step = checkpoint.manifest.record.step
  }

  /// Reads a file of weights that was made from a checkpoint; nil if its metadata names no run.
  init?(merged path: String) throws {
    let file = try WeightsFile.open(path)
    guard let run = try SavedRun(in: file), let record = file.metadata[MergeRecord.key] else { return nil }
    saved = run
    do {
      step = try JSONDecoder().decode(MergeRecord.self, from: Data(record.utf8)).step
    } catch {
      throw UserError(path, "what it says of its run is not understood: \(error)")
    }
    model = CLIP(try CLIPConfig(json: Data(saved.model.utf8)), frozen: true)
    try ModelFiles.read(path, into: model)
  }

  /// Returns the vocabulary at `path`, or at the run's own path.
  ///
  /// - Throws: a `UserError` if it is not the vocabulary that the model was trained with.
  func vocabulary(at path: String?) throws -> Vocabulary {
    let path = path ?? saved.vocabulary
    guard try SHA256.ofFile(path) == saved.vocabularySHA256 else {
      throw UserError(
        path,
        "is not the vocabulary that the model was trained with (\(saved.vocabulary), SHA-256 "
          + "\(saved.vocabularySHA256)); name that one with --vocabulary")
    }
    return try Vocabulary(contentsOf: path)
  }

  /// Returns the latest checkpoint of a run's folder, or the path itself if it is no run's folder.
  static func checkpoint(_ path: String) -> String {
    let latest = URL(filePath: path).appending(path: RunFolder.checkpointFolder).appending(path: "latest")
    return FileManager.default.fileExists(atPath: latest.path) ? latest.path(percentEncoded: false) : path
  }
}

extension CLIP<Float> {
  /// Fills parameters and buffers from a checkpoint; the own parameters of its run's objective are not read. Every rank
  /// must call it.
  func read(_ checkpoint: Checkpoint, averaged: Bool = false, over communicator: Communicator) throws {
    try checkpoint.readValues(
      entries, into: parameters.values, over: communicator, leaving: .objective,
      averaged: averaged)
    try parameters.readBuffers(from: checkpoint, averaged: averaged)
  }

  /// Fills parameters and buffers from a checkpoint on this rank alone; with `ranges`, only these parts of the
  /// parameters.
  func read(_ checkpoint: Checkpoint, ranges: [Range<Int>]? = nil) throws {
    for range in ranges ?? [0..<parameters.count] {
      try checkpoint.readValues(
        entries, range: range, into: parameters.values.slice(range), leaving: .objective)
    }
    try parameters.readBuffers(from: checkpoint)
  }
}
