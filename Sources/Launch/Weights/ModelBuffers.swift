import Dist
import Model
import Tensor

extension ParameterStore {
  /// The buffers as a checkpoint's record has them.
  var bufferArrays: [CheckpointRecord.Array] {
    buffers.map { .init(name: $0.name, shape: $0.shape.array, values: value(of: $0).array) }
  }

  /// Their moving averages likewise, under names of their own.
  func bufferArrays(averages: WeightAverage<S>) -> [CheckpointRecord.Array] {
    buffers.map {
      .init(
        name: MergedTensor.averagePrefix + $0.name, shape: $0.shape.array,
        values: averages.bufferValues.slice($0.range).array)
    }
  }

  /// Every buffer, or moving average of one, that a checkpoint's record lacks or has in another shape.
  func bufferMismatches(in checkpoint: Checkpoint, averaged: Bool = false) -> [String] {
    let stored = checkpoint.arrays(averaged: averaged)
    return buffers.compactMap { buffer in
      guard let array = stored[buffer.name] else { return "buffer \(buffer.name) \(buffer.shape) is missing" }
      return array.shape == buffer.shape.array
        ? nil : "buffer \(buffer.name) has the shape \(array.shape), the model expects \(buffer.shape)"
    }
  }

  /// Fills the buffers from a checkpoint's record, or from it what takes their place: their moving averages, or others'
  /// memory. Every missing and misshapen one is listed.
  func readBuffers(
    from checkpoint: Checkpoint, averaged: Bool = false, into values: Tensor<Double>? = nil
  ) throws {
    let problems = bufferMismatches(in: checkpoint, averaged: averaged)
    guard problems.isEmpty else {
      throw ModelFileError(
        path: checkpoint.folder, exitCode: 65,
        reason: "does not fit the model:\n  " + problems.joined(separator: "\n  "))
    }
    let stored = checkpoint.arrays(averaged: averaged)
    let values = values ?? bufferValues
    for buffer in buffers {
      if let array = stored[buffer.name] { copy(Tensor(buffer.shape, array.values), into: values.slice(buffer.range)) }
    }
  }
}

extension Checkpoint {
  /// The arrays of its record by their names; of moving averages, by the names of what is averaged.
  fileprivate func arrays(averaged: Bool) -> [String: CheckpointRecord.Array] {
    let prefix = averaged ? MergedTensor.averagePrefix : ""
    let arrays = manifest.record.arrays.filter { $0.name.hasPrefix(prefix) }
    return Dictionary(arrays.map { (String($0.name.dropFirst(prefix.count)), $0) }) { first, _ in first }
  }
}
