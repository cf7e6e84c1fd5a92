import Dist
import Model
import Tensor

extension ParameterStore {
  /// The buffers in the form of a checkpoint's record.
  var bufferArrays: [CheckpointRecord.Array] {
    buffers.map { .init(name: $0.name, shape: $0.shape.array, values: value(of: $0).array) }
  }

  /// Returns the buffers' moving averages in the form of a checkpoint's record, under prefixed names.
  func bufferArrays(averages: WeightAverage<S>) -> [CheckpointRecord.Array] {
    buffers.map {
      .init(
        name: MergedTensor.averagePrefix + $0.name, shape: $0.shape.array,
        values: averages.bufferValues.slice($0.range).array)
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

  /// Fills the buffers from a checkpoint's record.
  ///
  /// - Parameters:
  ///   - averaged: reads the buffers' moving averages in place of the buffers.
  ///   - values: the memory to fill, laid out as `bufferValues`; nil for `bufferValues` itself.
  /// - Throws: a `UserError` that lists every missing and misshapen buffer.
  func readBuffers(
    from checkpoint: Checkpoint, averaged: Bool = false, into values: Tensor<Double>? = nil
  ) throws {
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
