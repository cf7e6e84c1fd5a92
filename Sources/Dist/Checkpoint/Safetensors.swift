public import Foundation
public import Tensor

/// An open safetensors file: named tensors, as open_clip and Hugging Face store weights.
///
/// Opening a file reads and checks its header. Numbers are read on demand, in pieces, from any thread.
public struct SafetensorsFile: Sendable {
  public let path: String
  /// The strings that the writer of the file added.
  public let metadata: [String: String]
  /// The tensors' names, in the order of their bytes in the file.
  public let names: [String]

  private let file: OpenFile
  private let entries: [String: SafetensorsHeader.Entry]
  /// The offset of the first number in the file, in bytes.
  private let start: Int

  public init(_ url: URL) throws(SafetensorsError) { try self.init(url.path(percentEncoded: false)) }

  /// Opens the file `path`. Throws if the header does not fit the file's size, or if tensors overlap or leave holes.
  public init(_ path: String) throws(SafetensorsError) {
    self.path = path
    do {
      file = try OpenFile.reading(path)
      let size = try file.size()
      start = 8 + (try SafetensorsHeader.length(file.read(min(8, size), of: UInt8.self, at: 0), fileSize: size))
      let header = try SafetensorsHeader(file.read(start - 8, of: UInt8.self, at: 8), dataSize: size - start)
      metadata = header.metadata
      names = header.entries.map(\.name)
      entries = Dictionary(uniqueKeysWithValues: header.entries.map { ($0.name, $0) })
    } catch let error as FileError {
      throw SafetensorsError(error, path: path)
    } catch { throw SafetensorsError(path: path, reason: "\(error)") }
  }

  public func contains(_ name: String) -> Bool { entries[name] != nil }

  /// Returns the shape of a tensor; `[]` is one number. Throws for more than four dimensions.
  public func shape(of name: String) throws(SafetensorsError) -> Shape {
    let entry = try entry(name)
    guard let shape = Shape(entry.shape) else {
      throw problem("tensor \(name) has the shape \(entry.shape); at most four sizes can be used")
    }
    return shape
  }

  public func type(of name: String) throws(SafetensorsError) -> SafetensorsType { try entry(name).type }

  /// Returns a tensor of floating-point numbers in a new arena. F16, BF16, F32 and F64 are converted to `S`, rounded to
  /// nearest if it is narrower. Throws for integers.
  public func tensor<S: Scalar>(_ name: String, as _: S.Type = S.self) throws(SafetensorsError) -> Tensor<S> {
    let tensor = Tensor<S>(try shape(of: name))
    try read(name, into: tensor)
    return tensor
  }

  /// Fills an existing tensor of the same count, with the same conversion.
  public func read<S: Scalar>(_ name: String, into tensor: Tensor<S>) throws(SafetensorsError) {
    let entry = try entry(name)
    guard entry.range.count / entry.type.size == tensor.count else {
      throw problem("tensor \(name) has the shape \(entry.shape), expected \(tensor.shape)")
    }
    try read(name, numbers(entry), into: tensor)
  }

  /// Fills an existing tensor with a range of a tensor's numbers in row-major order, with the same conversion, and
  /// reads no more than these.
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

  /// Returns the numbers of an integer tensor in row-major order. Booleans are 0 or 1.
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

  /// Returns the SHA-256 of the whole file in hexadecimal digits. A tensor of 32-bit floats that was read before, and
  /// that `values` returns unchanged, is not read again.
  public func sha256(having values: (_ name: String) -> Tensor<Float>?) throws(SafetensorsError) -> String {
    var hasher = SHA256()
    func add(_ range: Range<Int>, to hasher: inout SHA256) throws(SafetensorsError) {
      try SafetensorsError.naming(path) { () throws(FileError) in try file.hash(range, into: &hasher) }
    }
    try add(0..<start, to: &hasher)
    // The names are in the order of the tensors' bytes, which leave no holes.
    for name in names {
      let entry = try entry(name)
      if entry.type == .float32, let tensor = values(name) {
        precondition(tensor.count * 4 == entry.range.count, "\(name) of \(entry.shape) is not \(tensor.shape)")
        // Every processor that we build for has the file's byte order.
        unsafe tensor.withUnsafeMutableBuffer { unsafe hasher.update(UnsafeRawBufferPointer($0)) }
      } else {
        try add(start + entry.range.lowerBound..<start + entry.range.upperBound, to: &hasher)
      }
    }
    return hasher.finalize().hexadecimal
  }

  private func entry(_ name: String) throws(SafetensorsError) -> SafetensorsHeader.Entry {
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

/// A safetensors file that cannot be read or written.
public struct SafetensorsError: FileFormatError, ExitCoded, Hashable, CustomStringConvertible {
  public let path: String
  /// The problem, with the expected and the found value.
  public let reason: String
  /// 65 if the file's contents are wrong, 74 if the system reports an error.
  public let status: ExitStatus

  public var description: String { "safetensors file \(path): \(reason)" }
}
