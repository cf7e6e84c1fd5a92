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

  private let file: OpenFile
  private let entries: [String: SafetensorsHeader.Entry]
  /// Where the numbers begin.
  private let start: Int

  /// Numbers converted at a time.
  private static let piece = 1 << 18

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
    try read(entry, into: tensor)
  }

  /// Fills a vector with some of a tensor's numbers, row-major; reads no more than these. Converts like `tensor(_:as:)`.
  public func read<S: Scalar>(
    _ name: String, elements: Range<Int>, into tensor: Tensor<S>
  ) throws(SafetensorsError) {
    precondition(elements.count == tensor.count, "\(elements) into \(tensor.shape)")
    var entry = try entry(name)
    let size = entry.type.size
    guard elements.lowerBound >= 0, elements.upperBound <= entry.range.count / size else {
      throw problem("tensor \(name) has the shape \(entry.shape), expected at least \(elements.upperBound) numbers")
    }
    let start = entry.range.lowerBound
    entry.range = start + elements.lowerBound * size..<start + elements.upperBound * size
    try read(entry, into: tensor)
  }

  private func read<S: Scalar>(_ entry: SafetensorsHeader.Entry, into tensor: Tensor<S>) throws(SafetensorsError) {
    switch entry.type {
    case .float32 where S.self == Float.self, .float64 where S.self == Double.self: try copy(entry, into: tensor)
    case .float64: try convert(entry, UInt64.self, into: tensor) { S(Double(bitPattern: $0)) }
    case .float32: try convert(entry, UInt32.self, into: tensor) { S(Float(bitPattern: $0)) }
    case .float16: try convert(entry, UInt16.self, into: tensor) { S(Float16(bitPattern: $0)) }
    case .bfloat16: try convert(entry, UInt16.self, into: tensor) { S(Float(bitPattern: UInt32($0) << 16)) }
    case .int64, .int32, .int16, .int8, .uint8, .bool:
      throw problem("tensor \(entry.name) holds \(entry.type.rawValue), expected floating-point numbers")
    }
  }

  /// A tensor of integers, row-major; a boolean is 0 or 1.
  public func integers(_ name: String) throws(SafetensorsError) -> [Int] {
    let entry = try entry(name)
    let values: [Int]
    switch entry.type {
    case .int64: values = try collect(entry, UInt64.self) { Int(Int64(bitPattern: $0)) }
    case .int32: values = try collect(entry, UInt32.self) { Int(Int32(bitPattern: $0)) }
    case .int16: values = try collect(entry, UInt16.self) { Int(Int16(bitPattern: $0)) }
    case .int8: values = try collect(entry, UInt8.self) { Int(Int8(bitPattern: $0)) }
    case .uint8, .bool: values = try collect(entry, UInt8.self) { Int($0) }
    case .float64, .float32, .float16, .bfloat16:
      throw problem("tensor \(name) holds \(entry.type.rawValue), expected integers")
    }
    if entry.type == .bool, let other = values.first(where: { $0 > 1 }) {
      throw problem("tensor \(name) holds the boolean \(other), expected 0 or 1")
    }
    return values
  }

  private func entry(_ name: String) throws(SafetensorsError) -> SafetensorsHeader.Entry {
    guard let entry = entries[name] else {
      throw problem(
        "it has no tensor \(name); it has \(names.count), among them \(names.prefix(5).joined(separator: ", "))")
    }
    return entry
  }

  private func problem(_ reason: String) -> SafetensorsError { SafetensorsError(path: path, reason: reason) }

  /// Bytes that need no conversion: the file's byte order is that of every processor we build for.
  private func copy<S: Scalar>(_ entry: SafetensorsHeader.Entry, into tensor: Tensor<S>) throws(SafetensorsError) {
    try SafetensorsError.naming(path) { () throws(FileError) in
      try unsafe tensor.withUnsafeMutableBuffer { buffer throws(FileError) in
        try unsafe file.read(into: UnsafeMutableRawBufferPointer(buffer), at: start + entry.range.lowerBound)
      }
    }
  }

  private func convert<S: Scalar, Bits: FixedWidthInteger & BitwiseCopyable>(
    _ entry: SafetensorsHeader.Entry, _ bits: Bits.Type, into tensor: Tensor<S>, _ value: (Bits) -> S
  ) throws(SafetensorsError) {
    var at = 0
    try forEachPiece(entry, bits) { piece in
      for number in piece {
        tensor[at] = value(number)
        at += 1
      }
    }
  }

  private func collect<Bits: FixedWidthInteger & BitwiseCopyable>(
    _ entry: SafetensorsHeader.Entry, _ bits: Bits.Type, _ value: (Bits) -> Int
  ) throws(SafetensorsError) -> [Int] {
    var values: [Int] = []
    values.reserveCapacity(entry.range.count / entry.type.size)
    try forEachPiece(entry, bits) { piece in
      for number in piece { values.append(value(number)) }
    }
    return values
  }

  /// Lends the numbers of an entry, as bit patterns, some at a time.
  private func forEachPiece<Bits: FixedWidthInteger & BitwiseCopyable>(
    _ entry: SafetensorsHeader.Entry, _: Bits.Type, _ body: ([Bits]) -> Void
  ) throws(SafetensorsError) {
    try SafetensorsError.naming(path) { () throws(FileError) in
      let count = entry.range.count / entry.type.size
      for first in stride(from: 0, to: count, by: Self.piece) {
        let offset = start + entry.range.lowerBound + first * entry.type.size
        body(try file.read(min(Self.piece, count - first), of: Bits.self, at: offset))
      }
    }
  }
}
