internal import Tensor

/// A file of named tensors, of which each rank writes, syncs and reads back blocks that no other rank shares.
public struct SharedTensorFile {
  /// The format of the file.
  public enum Form: Sendable {
    case safetensors
    /// An HDF5 file with a data set for each tensor; see `HDF5Weights`.
    case hdf5
  }

  let path: String
  let form: Form
  let tensors: [TensorDescription]
  let metadata: [String: String]
  private static let piece = 1 << 18
  /// The size of the blocks in bytes. Machines that write to one page of a network file system would lose bytes.
  private static let block = 1 << 20

  /// Writes the file. `numbers` returns a range of a tensor's numbers.
  func write(
    over communicator: Communicator, numbers: (_ tensor: Int, _ elements: Range<Int>) throws -> TensorPiece
  ) throws {
    let isFirst = communicator.rank == 0
    let temporary = Publish.temporaryPath(for: path)
    do {
      let offsets = try communicator.together { try isFirst ? create(temporary) : [] }
      let layout = try communicator.broadcast { Layout(path: temporary, offsets: offsets) }
      try communicator.together { try fill(layout, communicator, numbers) }
      try communicator.together {
        guard isFirst else { return }
        switch form {
        case .safetensors: try SafetensorsFile.seal(tensors, metadata: metadata, at: temporary)
        case .hdf5: try HDF5Weights.seal(temporary)
        }
        try Publish.rename(temporary, to: path)
      }
    } catch {
      if isFirst { try? Publish.removeAll(temporary) }
      // A rank that throws may end the job, so rank 0 must remove the file first.
      try communicator.barrier()
      throw error
    }
  }

  private struct Layout: Codable {
    var path: String
    var offsets: [Int]
  }

  /// Creates the file `temporary` without numbers. Returns the offset of each tensor's numbers.
  private func create(_ temporary: String) throws -> [Int] {
    let folder = Publish.folder(of: path)
    try Publish.makeFolder(folder)
    try Publish.requireSpace(tensors.reduce(1 << 20) { $0 + $1.byteCount + 2048 }, at: folder, for: path)
    return switch form {
    case .safetensors: try SafetensorsFile.create(tensors, metadata: metadata, at: temporary)
    case .hdf5: try HDF5Weights.create(tensors, metadata: metadata, at: temporary)
    }
  }

  private func fill(
    _ layout: Layout, _ communicator: Communicator, _ numbers: (Int, Range<Int>) throws -> TensorPiece
  ) throws {
    let file = try OpenFile.changing(layout.path)
    let blocks = communicator.slice(of: (try file.size() + Self.block - 1) / Self.block)
    let share = blocks.lowerBound * Self.block..<blocks.upperBound * Self.block
    var written: [Range<Int>] = []
    var hasher = SHA256()
    for index in tensors.indices.sorted(by: { layout.offsets[$0] < layout.offsets[$1] }) {
      let tensor = tensors[index]
      let own = Self.elements(of: tensor, at: layout.offsets[index], in: share)
      for start in stride(from: own.lowerBound, to: own.upperBound, by: Self.piece) {
        let elements = start..<min(start + Self.piece, own.upperBound)
        let place = layout.offsets[index] + start * tensor.type.size
        try unsafe numbers(index, elements).withBytes { bytes in
          precondition(bytes.count == elements.count * tensor.type.size, "numbers of \(tensor.name)")
          unsafe hasher.update(bytes)
          try unsafe file.overwrite(bytes, at: place)
        }
        written.append(place..<place + elements.count * tensor.type.size)
      }
    }
    try file.sync()
    try Publish.forget(file: layout.path)
    let check = try OpenFile.reading(layout.path)
    var found = SHA256()
    for range in written { try check.hash(range, into: &found) }
    guard found.finalize() == hasher.finalize() else {
      throw FileError(action: "verify", path: path, reason: "the numbers read back differ from those written")
    }
  }

  /// Returns the elements whose first bytes lie in the range `bytes` of the file.
  private static func elements(of tensor: TensorDescription, at offset: Int, in bytes: Range<Int>) -> Range<Int> {
    let width = tensor.type.size
    func first(_ byte: Int) -> Int { byte <= offset ? 0 : min((byte - offset + width - 1) / width, tensor.count) }
    return first(bytes.lowerBound)..<first(bytes.upperBound)
  }
}

/// The name, type and shape of a tensor in a file.
public struct TensorDescription: Hashable, Sendable {
  public let name: String
  public let type: SafetensorsType
  public let shape: [Int]
  var count: Int { shape.reduce(1, *) }
  public var byteCount: Int { shape.reduce(type.size, *) }
}

/// A tensor to write from checkpoints.
public struct MergedTensor: Sendable {
  enum Content: Sendable {
    /// The scalars of one group that the checkpoints hold of the named parameter.
    case scalars(CheckpointPart.Group, String)
    case values([Double])
  }

  public let description: TensorDescription
  let content: Content

  /// Returns a parameter's values, or their moving average, as F32 under the parameter's name.
  public static func values(of name: String, _ shape: [Int], averaged: Bool) -> MergedTensor {
    MergedTensor(name, .float32, shape, .scalars(averaged ? .average : .parameters, name))
  }

  /// Returns a parameter's moving average, in addition to its values, as F32 under `ema.NAME`.
  public static func average(of name: String, _ shape: [Int]) -> MergedTensor {
    MergedTensor("\(averagePrefix)\(name)", .float32, shape, .scalars(.average, name))
  }

  /// Returns AdamW's moments of a parameter as F32 under `optimizer.moment1.NAME` and `optimizer.moment2.NAME`.
  public static func moments(of name: String, _ shape: [Int]) -> [MergedTensor] {
    [CheckpointPart.Group.moment1, .moment2].map {
      MergedTensor("\(optimizerPrefix)\($0.rawValue).\(name)", .float32, shape, .scalars($0, name))
    }
  }

  /// Returns a small array. Its values must be integers if `type` is an integer type.
  public static func array(_ array: CheckpointRecord.Array, as type: SafetensorsType) -> MergedTensor {
    precondition([.float32, .float64, .int64].contains(type), "\(type.rawValue) is not a type of arrays")
    return MergedTensor(array.name, type, array.shape, .values(array.values))
  }

  /// The prefix of the names of tensors that only an optimizer needs.
  public static let optimizerPrefix = "optimizer."
  /// The prefix of the names of moving averages that are stored in addition to the values.
  public static let averagePrefix = "ema."

  private init(_ name: String, _ type: SafetensorsType, _ shape: [Int], _ content: Content) {
    description = TensorDescription(name: name, type: type, shape: shape)
    self.content = content
  }
}

/// Consecutive numbers of a tensor in a file's byte order.
enum TensorPiece {
  case floats(Tensor<Float>)
  /// Numbers of 64 bits, integers or not.
  case words([Int64])

  /// Calls `body` with the bytes of the numbers.
  @unsafe func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    switch self {
    case .floats(let tensor):
      try unsafe tensor.withUnsafeMutableBuffer { buffer throws(E) in try unsafe body(UnsafeRawBufferPointer(buffer)) }
    case .words(let values):
      try unsafe values.withUnsafeBufferPointer { buffer throws(E) in try unsafe body(UnsafeRawBufferPointer(buffer)) }
    }
  }
}
