import Dist
import Foundation
import Model
import Tensor

/// A model from one of our checkpoints, with the run that trained it.
struct TrainedModel {
  let model: CLIP<Float>
  let saved: SavedRun
  let step: Int

  /// Reads the checkpoint at a path, as `checkpoint(_:)` understands it; with `averaged`, the moving average of its
  /// weights. Every rank must call it.
  init(_ path: String, averaged: Bool = false, over communicator: Communicator) throws {
    let checkpoint = try Checkpoint.open(Self.checkpoint(path), communicator: communicator)
    saved = try SavedRun(checkpoint)
    // A config may say any sizes: nothing is allocated before they are the checkpoint's, and fit into memory.
    let config = try saved.config(in: checkpoint.folder)
    try checkpoint.require(CLIP<Float>.layout(config).entries, leaving: .objective)
    try config.requireMemory(path, pairs: BlockEncoder.height, over: communicator)
    model = CLIP(config, frozen: true)
    try model.read(checkpoint, averaged: averaged, over: communicator)
    step = checkpoint.manifest.record.step
  }

  /// Reads a file of weights that was made from a checkpoint; nil if its metadata names no run. Every rank must call
  /// it.
  init?(merged path: String, over communicator: Communicator) throws {
    let file = try WeightsFile.open(path)
    guard let run = try SavedRun(in: file), let record = try MergeRecord(in: file) else { return nil }
    (saved, step) = (run, record.step)
    model = try ModelFiles.model(
      saved.config(in: path), from: path, pairs: BlockEncoder.height, over: communicator)
  }

  /// Returns true if the path is a checkpoint's folder, or that of a run that has one.
  static func isOne(_ path: String) -> Bool {
    FileManager.default.fileExists(atPath: "\(checkpoint(path))/\(CheckpointManifest.file)")
  }

  /// Returns the latest checkpoint of a run's folder, the best one for `best` behind that folder, or the path itself if
  /// it is neither.
  static func checkpoint(_ path: String) -> String {
    let folder = URL(filePath: path, directoryHint: .isDirectory)
    let isBest = folder.lastPathComponent == "best"
    let marked = [(folder, "latest")] + (isBest ? [(folder.deletingLastPathComponent(), "best")] : [])
    let links = marked.map { $0.appending(path: RunFolder.checkpointFolder).appending(path: $1) }
    let link = links.first { FileManager.default.fileExists(atPath: $0.path) }
    return link?.path(percentEncoded: false) ?? path
  }
}

extension CLIP<Float> {
  /// Fills parameters and buffers from a checkpoint; the own parameters of its run's objective are not read. Every rank
  /// must call it.
  func read(_ checkpoint: Checkpoint, averaged: Bool = false, over communicator: Communicator) throws {
    try checkpoint.readValues(
      entries, into: parameters.values, over: communicator, leaving: .objective, averaged: averaged)
    try parameters.readBuffers(from: checkpoint, averaged: averaged)
  }

  /// Does the same on this rank alone; with `ranges`, only these parts of the parameters are read.
  func read(_ checkpoint: Checkpoint, ranges: [Range<Int>]? = nil) throws {
    for range in ranges ?? [0..<parameters.count] {
      try checkpoint.readValues(entries, range: range, into: parameters.values.slice(range), leaving: .objective)
    }
    try parameters.readBuffers(from: checkpoint)
  }
}

extension ParameterStore {
  var bufferArrays: [CheckpointRecord.Array] {
    buffers.map { .init(name: $0.name, shape: $0.shape.array, values: value(of: $0).array) }
  }

  /// Returns the buffers' moving averages in the form of a checkpoint's record, under prefixed names.
  func bufferArrays(averages: WeightAverage<S>) -> [CheckpointRecord.Array] {
    buffers.map {
      let values = averages.bufferValues.slice($0.range).array
      return .init(name: MergedTensor.averagePrefix + $0.name, shape: $0.shape.array, values: values)
    }
  }

  /// Returns a message for every buffer that a checkpoint's record lacks or holds in another shape; with `averaged`,
  /// for every moving average of a buffer.
  func bufferMismatches(in checkpoint: Checkpoint, averaged: Bool = false) -> [String] {
    let stored = checkpoint.arrays(averaged: averaged)
    return buffers.compactMap { buffer in
      guard let array = stored[buffer.name] else { return "buffer \(buffer.name) \(buffer.shape) is missing" }
      return array.shape == buffer.shape.array
        ? nil : "buffer \(buffer.name) has the shape \(array.shape), the model expects \(buffer.shape)"
    }
  }

  /// Fills the buffers, or memory that is laid out as `bufferValues`, from a checkpoint's record; with `averaged`, from
  /// the buffers' moving averages. Throws a `UserError` that lists every missing and misshapen buffer.
  func readBuffers(from checkpoint: Checkpoint, averaged: Bool = false, into values: Tensor<Double>? = nil) throws {
    let problems = bufferMismatches(in: checkpoint, averaged: averaged)
    guard problems.isEmpty else {
      throw UserError(checkpoint.folder, "does not fit the model:\n  " + problems.joined(separator: "\n  "))
    }
    let stored = checkpoint.arrays(averaged: averaged)
    let values = values ?? bufferValues
    for buffer in buffers {
      if let array = stored[buffer.name] { copy(Tensor(buffer.shape, array.values), into: values.slice(buffer.range)) }
    }
  }
}

extension Checkpoint {
  /// Returns the arrays of the record by name; with `averaged`, the moving averages by the names of their buffers.
  fileprivate func arrays(averaged: Bool) -> [String: CheckpointRecord.Array] {
    let prefix = averaged ? MergedTensor.averagePrefix : ""
    let arrays = manifest.record.arrays.filter { $0.name.hasPrefix(prefix) }
    return Dictionary(arrays.map { (String($0.name.dropFirst(prefix.count)), $0) }) { first, _ in first }
  }
}
