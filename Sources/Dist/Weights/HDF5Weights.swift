public import Tensor

/// An HDF5 file with a data set for each tensor, under the tensor's name, and the metadata as attributes of the root.
/// h5py and h5dump read it like any other HDF5 file.
///
/// A single changed byte of an HDF5 file can crash the library. The file therefore begins with a user block, which the
/// library skips, with the SHA-256 of the rest; a file without it is refused.
public struct HDF5Weights: NamedTensors {
  public let path: String
  public let metadata: [String: String]
  public let names: [String]
  private let tensors: [String: StoredTensor]

  /// The file name extensions of HDF5 files.
  public static let endings = [".h5", ".hdf5"]
  /// The size of the user block in bytes.
  private static let front = 512
  private static let mark = "kinship weights 1\nsha256 "
  private static let types: [(type: SafetensorsType, stored: HDF5Type)] = [
    (.float64, .float64), (.float32, .float32), (.float16, .float16), (.bfloat16, .bfloat16), (.int64, .int64),
    (.int32, .int32), (.uint8, .uint8),
  ]

  /// Returns the type of weights that is stored as this type; nil if there is none.
  static func safetensorsType(of stored: HDF5Type) -> SafetensorsType? { types.first { $0.stored == stored }?.type }

  /// Opens a file after verifying its SHA-256, which reads all of it.
  public init(_ path: String) throws {
    self.path = path
    let file = try HDF5WeightsError.opening(path)
    try Self.verify(file)
    let library = try HDF5File.open(path)
    names = try library.names()
    var tensors: [String: StoredTensor] = [:]
    for name in names {
      let dataset = try library.dataset("/\(name)")
      guard let type = Self.safetensorsType(of: dataset.type) else {
        throw HDF5WeightsError(
          path: path, reason: "tensor \(name) holds \(dataset.type.rawValue), which is not a type of weights")
      }
      tensors[name] = StoredTensor(
        name: name, type: type, shape: dataset.shape, strides: nil, file: file, offset: dataset.fileOffset ?? 0,
        span: dataset.count, format: HDF5WeightsError.self)
    }
    self.tensors = tensors
    let attributes = library.attributes
    metadata = Dictionary(uniqueKeysWithValues: try attributes.names().map { ($0, try attributes.string($0)) })
    try library.close()
  }

  private static func verify(_ file: OpenFile) throws(HDF5WeightsError) {
    let (block, found) = try HDF5WeightsError.naming(file.path) { () throws(FileError) in
      let block = try file.read(min(front, try file.size()), of: UInt8.self, at: 0)
      return (block, block.count == front ? try file.sha256(without: 0..<front) : "")
    }
    guard block.count == front, block.starts(with: mark.utf8) else {
      throw HDF5WeightsError(path: file.path, reason: "kinship merge did not write it, or it is truncated")
    }
    let expected = String(decoding: block.dropFirst(mark.utf8.count).prefix(64), as: UTF8.self)
    guard found == expected else {
      throw HDF5WeightsError(path: file.path, reason: "it was altered: its SHA-256 is \(found), expected \(expected)")
    }
  }

  public func contains(_ name: String) -> Bool { tensors[name] != nil }
  /// Does nothing: a file was verified when it was opened.
  @discardableResult
  public func verify(having values: (_ name: String) -> Tensor<Float>?) -> Bool { true }

  public func stored(_ name: String) throws -> StoredTensor {
    guard let tensor = tensors[name] else { throw HDF5WeightsError(missing: name, in: self) }
    return tensor
  }
}

// MARK: Writing

extension HDF5Weights {
  /// Creates a file with space for the tensors' numbers, which are undefined until they are written. Returns the offset
  /// of each tensor's numbers. The file is not valid before `seal`.
  static func create(_ tensors: [TensorDescription], metadata: [String: String], at path: String) throws -> [Int] {
    let file = try HDF5File.create(path, userBlock: front)
    for (name, text) in metadata.sorted(by: { $0.key < $1.key }) { try file.attributes.set(name, text) }
    let offsets = try tensors.map { tensor in
      guard let type = types.first(where: { $0.type == tensor.type })?.stored else {
        preconditionFailure("\(tensor.type.rawValue) has no HDF5 type")
      }
      return try file.createDataset("/\(tensor.name)", type, shape: tensor.shape).fileOffset ?? 0
    }
    try file.close()
    return offsets
  }

  /// Writes the SHA-256 of the rest of the file into its user block, and syncs the file to the disk.
  static func seal(_ path: String) throws(FileError) {
    let text = Array("\(mark)\(try OpenFile.reading(path).sha256(without: 0..<front))\n".utf8)
    try OpenFile.rewrite(text + [UInt8](repeating: 0, count: front - text.count), of: path)
  }
}

/// An HDF5 file of weights that cannot be read or written.
public struct HDF5WeightsError: FileFormatError, ExitCoded, Hashable, CustomStringConvertible {
  public let path: String
  /// The problem, with the expected and the found value.
  public let reason: String
  /// 65 if the file's contents are wrong, 74 if the system reports an error.
  public let status: ExitStatus
  public var description: String { "HDF5 weights \(path): \(reason)" }
}
