internal import Foundation
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

  private let file: OpenFile
  private let entries: [String: (shape: [Int], numbers: StoredNumbers)]

  /// The file name extensions of HDF5 files.
  public static let endings = [".h5", ".hdf5"]

  /// The size of the user block in bytes.
  private static let front = 512
  private static let mark = "kinship weights 1\nsha256 "

  /// Opens a file after verifying its SHA-256, which reads all of it.
  public init(_ path: String) throws {
    self.path = path
    file = try HDF5WeightsError.naming(path) { () throws(FileError) in try OpenFile.reading(path) }
    try Self.verify(file, path)
    let library = try HDF5File.open(path)
    names = try library.names()
    var entries: [String: (shape: [Int], numbers: StoredNumbers)] = [:]
    for name in names {
      let dataset = try library.dataset("/\(name)")
      guard let type = Self.types.first(where: { $0.stored == dataset.type })?.type else {
        throw HDF5WeightsError(
          path: path, reason: "tensor \(name) holds \(dataset.type.rawValue), which is not a type of weights")
      }
      let numbers = StoredNumbers(type: type, offset: dataset.fileOffset ?? 0, count: dataset.count)
      entries[name] = (dataset.shape, numbers)
    }
    self.entries = entries
    let attributes = library.attributes
    metadata = Dictionary(uniqueKeysWithValues: try attributes.names().map { ($0, try attributes.string($0)) })
    try library.close()
  }

  private static func verify(_ file: OpenFile, _ path: String) throws(HDF5WeightsError) {
    let (block, found) = try HDF5WeightsError.naming(path) { () throws(FileError) in
      let block = try file.read(min(front, try file.size()), of: UInt8.self, at: 0)
      return (block, block.count == front ? try file.sha256(without: 0..<front) : "")
    }
    guard block.count == front, block.starts(with: mark.utf8) else {
      throw HDF5WeightsError(path: path, reason: "kinship merge did not write it, or it is truncated")
    }
    let expected = String(decoding: block.dropFirst(mark.utf8.count).prefix(64), as: UTF8.self)
    guard found == expected else {
      throw HDF5WeightsError(path: path, reason: "it was altered: its SHA-256 is \(found), expected \(expected)")
    }
  }

  public func contains(_ name: String) -> Bool { entries[name] != nil }

  public func shape(of name: String) throws(HDF5WeightsError) -> Shape {
    let found = try entry(name).shape
    guard let shape = Shape(found) else {
      throw problem("tensor \(name) has the shape \(found); at most four sizes can be used")
    }
    return shape
  }

  public func type(of name: String) throws(HDF5WeightsError) -> SafetensorsType { try entry(name).numbers.type }

  public func read<S: Scalar>(_ name: String, into tensor: Tensor<S>) throws(HDF5WeightsError) {
    let (shape, numbers) = try entry(name)
    guard numbers.count == tensor.count else {
      throw problem("tensor \(name) has the shape \(shape), expected \(tensor.shape)")
    }
    try read(name, elements: 0..<numbers.count, into: tensor)
  }

  public func read<S: Scalar>(_ name: String, elements: Range<Int>, into tensor: Tensor<S>) throws(HDF5WeightsError) {
    let (shape, numbers) = try entry(name)
    guard elements.lowerBound >= 0, elements.upperBound <= numbers.count else {
      throw problem("tensor \(name) has the shape \(shape), expected at least \(elements.upperBound) numbers")
    }
    guard numbers.type.isFloatingPoint else {
      throw problem("tensor \(name) holds \(numbers.type.rawValue), expected floating-point numbers")
    }
    try HDF5WeightsError.naming(path) { () throws(FileError) in try numbers.part(elements).read(file, into: tensor) }
  }

  public func integers(_ name: String) throws(HDF5WeightsError) -> [Int] {
    let numbers = try entry(name).numbers
    guard !numbers.type.isFloatingPoint else {
      throw problem("tensor \(name) holds \(numbers.type.rawValue), expected integers")
    }
    return try HDF5WeightsError.naming(path) { () throws(FileError) in try numbers.integers(file) }
  }

  private func entry(_ name: String) throws(HDF5WeightsError) -> (shape: [Int], numbers: StoredNumbers) {
    guard let entry = entries[name] else {
      throw problem(
        "it has no tensor \(name); it has \(names.count), among them \(names.prefix(5).joined(separator: ", "))")
    }
    return entry
  }

  private func problem(_ reason: String) -> HDF5WeightsError { HDF5WeightsError(path: path, reason: reason) }

  private static let types: [(type: SafetensorsType, stored: HDF5Type)] = [
    (.float64, .float64), (.float32, .float32), (.float16, .float16), (.bfloat16, .bfloat16), (.int64, .int64),
    (.int32, .int32), (.uint8, .uint8),
  ]
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
    let sum = try OpenFile.reading(path).sha256(without: 0..<front)
    let text = Array("\(mark)\(sum)\n".utf8)
    let file = try OpenFile.changing(path)
    let block = text + [UInt8](repeating: 0, count: front - text.count)
    try unsafe block.withUnsafeBufferPointer { buffer throws(FileError) in
      try unsafe file.overwrite(UnsafeRawBufferPointer(buffer), at: 0)
    }
    try file.sync()
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
