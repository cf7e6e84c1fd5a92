import Dist
import Model
import Tensor

extension ParameterStore {
  /// The buffers as a checkpoint's record has them.
  var bufferArrays: [CheckpointRecord.Array] {
    buffers.map { .init(name: $0.name, shape: $0.shape.array, values: value(of: $0).array) }
  }

  /// Every buffer that a checkpoint's record lacks or has in another shape.
  func bufferMismatches(in checkpoint: Checkpoint) -> [String] {
    let stored = checkpoint.arrays
    return buffers.compactMap { buffer in
      guard let array = stored[buffer.name] else { return "buffer \(buffer.name) \(buffer.shape) is missing" }
      return array.shape == buffer.shape.array
        ? nil : "buffer \(buffer.name) has the shape \(array.shape), the model expects \(buffer.shape)"
    }
  }

  /// Fills the buffers from a checkpoint's record. Every missing and misshapen one is listed.
  func readBuffers(from checkpoint: Checkpoint) throws {
    let problems = bufferMismatches(in: checkpoint)
    guard problems.isEmpty else {
      throw ModelFileError(
        path: checkpoint.folder, exitCode: 65,
        reason: "does not fit the model:\n  " + problems.joined(separator: "\n  "))
    }
    let stored = checkpoint.arrays
    for buffer in buffers {
      if let array = stored[buffer.name] { copy(Tensor(buffer.shape, array.values), into: value(of: buffer)) }
    }
  }
}

extension Checkpoint {
  /// The arrays of its record by their names.
  fileprivate var arrays: [String: CheckpointRecord.Array] {
    Dictionary(manifest.record.arrays.map { ($0.name, $0) }) { first, _ in first }
  }
}
