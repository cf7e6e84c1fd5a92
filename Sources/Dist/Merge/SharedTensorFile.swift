internal import Foundation

/// A file of named tensors that all ranks write together.
///
/// Rank 0 makes it, under another name, with room for every number; then each rank writes its share of the bytes, in
/// blocks that no two ranks share, brings them to the disk, and reads them back.
public struct SharedTensorFile {
  public enum Form: Sendable {
    case safetensors
    /// A data set for each tensor; see `HDF5Weights`.
    case hdf5
  }

  let path: String
  let form: Form
  let tensors: [TensorDescription]
  let metadata: [String: String]

  /// Numbers that are asked for at a time.
  private static let piece = 1 << 18
  /// Ranks on two machines that wrote into one page of a network file system would lose each other's bytes.
  private static let block = 1 << 20

  /// Writes the file; `numbers` gives some of a tensor's numbers.
  func write(over communicator: Communicator, numbers: (_ tensor: Int, _ elements: Range<Int>) throws -> TensorPiece)
    throws
  {
    let isFirst = communicator.rank == 0
    var layout = Data()
    let temporary = "\(path).\(UUID().uuidString).partial"
    do {
      try communicator.together {
        guard isFirst else { return }
        layout = try JSONEncoder().encode(Layout(path: temporary, offsets: create(temporary)))
      }
      var bytes = [UInt8](layout)
      try communicator.broadcast(&bytes)
      let place = try JSONDecoder().decode(Layout.self, from: Data(bytes))
      try communicator.together { try fill(place, communicator, numbers) }
      try communicator.together {
        guard isFirst else { return }
        if form == .hdf5 { try HDF5Weights.seal(temporary) }
        try Publish.rename(temporary, to: path)
      }
    } catch {
      if isFirst { try? Publish.removeAll(temporary) }
      // Whoever throws ends the job: not before rank 0 has tidied up.
      try communicator.barrier()
      throw error
    }
  }

  private struct Layout: Codable {
    var path: String
    /// Where each tensor's numbers begin.
    var offsets: [Int]
  }

  private func create(_ temporary: String) throws -> [Int] {
    let folder = Publish.folder(of: path)
    try Publish.makeFolder(folder)
    try Publish.requireSpace(tensors.reduce(1 << 20) { $0 + $1.byteCount + 2048 }, at: folder, for: path)
    return switch form {
    case .safetensors: try SafetensorsFile.create(tensors, metadata: metadata, at: temporary)
    case .hdf5: try HDF5Weights.create(tensors, metadata: metadata, at: temporary)
    }
  }

  /// Writes this rank's share, and reads it back.
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
      throw FileError(action: "verify", path: path, reason: "it reads back other numbers than were written")
    }
  }

  /// The elements whose bytes begin in `bytes` of the file.
  private static func elements(of tensor: TensorDescription, at offset: Int, in bytes: Range<Int>) -> Range<Int> {
    let width = tensor.type.size
    func first(_ byte: Int) -> Int { byte <= offset ? 0 : min((byte - offset + width - 1) / width, tensor.count) }
    return first(bytes.lowerBound)..<first(bytes.upperBound)
  }
}
