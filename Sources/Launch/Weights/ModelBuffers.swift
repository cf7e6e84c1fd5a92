import Dist
import Model
import Tensor

extension ParameterStore {
  /// The buffers as a checkpoint's record has them.
  var bufferArrays: [CheckpointRecord.Array] {
    buffers.map { .init(name: $0.name, shape: $0.shape.array, values: value(of: $0).array) }
  }

  /// Fills the buffers from a checkpoint's record. Every missing and misshapen one is listed.
  func readBuffers(from checkpoint: Checkpoint) throws {
    let stored = Dictionary(
      checkpoint.manifest.record.arrays.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    var problems: [String] = []
    for buffer in buffers {
      guard let array = stored[buffer.name] else {
        problems.append("buffer \(buffer.name) \(buffer.shape) is missing")
        continue
      }
      guard array.shape == buffer.shape.array else {
        problems.append("buffer \(buffer.name) has the shape \(array.shape), the model expects \(buffer.shape)")
        continue
      }
      copy(Tensor(buffer.shape, array.values), into: value(of: buffer))
    }
    guard problems.isEmpty else {
      throw ModelFileError(
        path: checkpoint.folder, exitCode: 65,
        reason: "does not fit the model:\n  " + problems.joined(separator: "\n  "))
    }
  }
}
