public import Foundation
public import Tensor

/// An open safetensors file: named tensors, as open_clip and Hugging Face store weights.
///
/// Opening reads and checks the header; numbers are read when they are asked for, in pieces, from any thread.
public struct SafetensorsFile: Sendable {
  public let path: String
  /// The strings that the writer added.
  public let metadata: [String: String]
  /// The tensors' names, in the order of their bytes in the file.
  public let names: [String]

  let file: OpenFile
  private let entries: [String: SafetensorsHeader.Entry]
  /// Where the numbers begin.
  let start: Int

  public init(_ url: URL) throws(SafetensorsError) { try self.init(url.path(percentEncoded: false)) }

  /// Opens `path`. A file whose header does not fit its size, or whose tensors overlap or leave holes, is refused.
  public init(_ path: String) throws(SafetensorsError) {
    self.path = path
    let file = try SafetensorsError.naming(path) { () throws(FileError) in try OpenFile.reading(path) }
    let size = try SafetensorsError.naming(path, file.size)
    let prefix = try SafetensorsError.naming(path) { () throws(FileError) in
      try file.read(min(8, size), of: UInt8.self, at: 0)
    }
    let start: Int
    do throws(SafetensorsHeader.Problem) {
      start = 8 + (try SafetensorsHeader.length(prefix, fileSize: size))
    } catch { throw SafetensorsError(path: path, reason: error.reason) }
    let json = try SafetensorsError.naming(path) { () throws(FileError) in
      try file.read(start - 8, of: UInt8.self, at: 8)
    }
    let header: SafetensorsHeader
    do throws(SafetensorsHeader.Problem) {
      header = try SafetensorsHeader(json, dataSize: size - start)
    } catch { throw SafetensorsError(path: path, reason: error.reason) }
    self.file = file
    self.start = start
    metadata = header.metadata
    names = header.entries.map(\.name)
    entries = Dictionary(uniqueKeysWithValues: header.entries.map { ($0.name, $0) })
  }

  public func contains(_ name: String) -> Bool { entries[name] != nil }

  /// The shape of a tensor; `[]` is one number. More than four sizes are an error.
  public func shape(of name: String) throws(SafetensorsError) -> Shape {
    let entry = try entry(name)
    guard let shape = Shape(entry.shape) else {
      throw problem("tensor \(name) has the shape \(entry.shape); at most four sizes can be used")
    }
    return shape
  }

  public func type(of name: String) throws(SafetensorsError) -> SafetensorsType { try entry(name).type }

  /// A tensor of floating-point numbers, in a new arena. F16, BF16, F32 and F64 are converted to `S`, rounded to
  /// nearest where it is narrower; integers are an error.
  public func tensor<S: Scalar>(_ name: String, as _: S.Type = S.self) throws(SafetensorsError) -> Tensor<S> {
    let tensor = Tensor<S>(try shape(of: name))
    try read(name, into: tensor)
    return tensor
  }

  /// Fills an existing tensor of the same count, wherever its memory lies; converts like `tensor(_:as:)`.
  public func read<S: Scalar>(_ name: String, into tensor: Tensor<S>) throws(SafetensorsError) {
    let entry = try entry(name)
    guard entry.range.count / entry.type.size == tensor.count else {
      throw problem("tensor \(name) has the shape \(entry.shape), expected \(tensor.shape)")
    }
    try read(name, numbers(entry), into: tensor)
  }

  /// Fills a vector with some of a tensor's numbers, row-major; reads no more than these. Converts like
  /// `tensor(_:as:)`.
  public func read<S: Scalar>(
    _ name: String, elements: Range<Int>, into tensor: Tensor<S>
  ) throws(SafetensorsError) {
    let entry = try entry(name)
    let all = numbers(entry)
    guard elements.lowerBound >= 0, elements.upperBound <= all.count else {
      throw problem("tensor \(name) has the shape \(entry.shape), expected at least \(elements.upperBound) numbers")
    }
    try read(name, all.part(elements), into: tensor)
  }

  private func read<S: Scalar>(
    _ name: String, _ numbers: StoredNumbers, into tensor: Tensor<S>
  ) throws(SafetensorsError) {
    guard numbers.type.isFloatingPoint else {
      throw problem("tensor \(name) holds \(numbers.type.rawValue), expected floating-point numbers")
    }
    try SafetensorsError.naming(path) { () throws(FileError) in try numbers.read(file, into: tensor) }
  }

  /// A tensor of integers, row-major; a boolean is 0 or 1.
  public func integers(_ name: String) throws(SafetensorsError) -> [Int] {
    let entry = try entry(name)
    guard !entry.type.isFloatingPoint else {
      throw problem("tensor \(name) holds \(entry.type.rawValue), expected integers")
    }
    let values = try SafetensorsError.naming(path) { () throws(FileError) in try numbers(entry).integers(file) }
    if entry.type == .bool, let other = values.first(where: { $0 > 1 }) {
      throw problem("tensor \(name) holds the boolean \(other), expected 0 or 1")
    }
    return values
  }

  func entry(_ name: String) throws(SafetensorsError) -> SafetensorsHeader.Entry {
    guard let entry = entries[name] else {
      throw problem(
        "it has no tensor \(name); it has \(names.count), among them \(names.prefix(5).joined(separator: ", "))")
    }
    return entry
  }

  private func problem(_ reason: String) -> SafetensorsError { SafetensorsError(path: path, reason: reason) }

  private func numbers(_ entry: SafetensorsHeader.Entry) -> StoredNumbers {
    StoredNumbers(
      type: entry.type, offset: start + entry.range.lowerBound, count: entry.range.count / entry.type.size)
  }
}
