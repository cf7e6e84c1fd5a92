public import Tensor

/// A file of weights in any format: named tensors whose numbers are read on demand, from any thread.
public protocol NamedTensors: Sendable {
  var path: String { get }
  /// The names of the tensors, in the file's own order.
  var names: [String] { get }
  /// The writer's notes about the weights, if the format can store them.
  var metadata: [String: String] { get }

  func contains(_ name: String) -> Bool
  /// Returns the shape of a tensor; `[]` is one number. Throws for more than four dimensions.
  func shape(of name: String) throws -> Shape
  func type(of name: String) throws -> SafetensorsType
  /// Fills a tensor of the same count with floating-point numbers, rounded to nearest if `S` is narrower than the
  /// file's type. Throws for integers.
  func read<S: Scalar>(_ name: String, into tensor: Tensor<S>) throws
  /// Does the same for a range of a tensor's numbers in row-major order, and reads no more than necessary.
  func read<S: Scalar>(_ name: String, elements: Range<Int>, into tensor: Tensor<S>) throws
  /// Returns the numbers of an integer tensor in row-major order.
  func integers(_ name: String) throws -> [Int]
}

extension SafetensorsFile: NamedTensors {}

/// Consecutive little-endian numbers of one type in a file.
struct StoredNumbers: Sendable {
  let type: SafetensorsType
  /// The offset of the first number in the file, in bytes.
  let offset: Int
  let count: Int

  /// How many numbers are converted at a time.
  private static let piece = 1 << 18

  /// Returns a range of these numbers.
  func part(_ elements: Range<Int>) -> StoredNumbers {
    precondition(elements.lowerBound >= 0 && elements.upperBound <= count, "numbers \(elements) of \(count)")
    return StoredNumbers(type: type, offset: offset + elements.lowerBound * type.size, count: elements.count)
  }

  /// Fills a tensor of the same count with numbers of type F16, BF16, F32 or F64, converted to `S`.
  func read<S: Scalar>(_ file: OpenFile, into tensor: Tensor<S>) throws(FileError) {
    precondition(tensor.count == count, "\(count) numbers for a tensor of \(tensor.shape)")
    switch type {
    case .float32 where S.self == Float.self, .float64 where S.self == Double.self:
      // Every processor that we build for has the file's byte order.
      try unsafe tensor.withUnsafeMutableBuffer { buffer throws(FileError) in
        try unsafe file.read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
      }
    case .float64: try convert(file, UInt64.self, into: tensor) { S(Double(bitPattern: $0)) }
    case .float32: try convert(file, UInt32.self, into: tensor) { S(Float(bitPattern: $0)) }
    case .float16: try convert(file, UInt16.self, into: tensor) { S(Float16(bitPattern: $0)) }
    case .bfloat16: try convert(file, UInt16.self, into: tensor) { S(Float(bitPattern: UInt32($0) << 16)) }
    case .int64, .int32, .int16, .int8, .uint8, .bool:
      preconditionFailure("\(type.rawValue) is no floating-point type")
    }
  }

  /// Returns the numbers of an integer or boolean type. Booleans keep the file's value.
  func integers(_ file: OpenFile) throws(FileError) -> [Int] {
    switch type {
    case .int64: try collect(file, UInt64.self) { Int(Int64(bitPattern: $0)) }
    case .int32: try collect(file, UInt32.self) { Int(Int32(bitPattern: $0)) }
    case .int16: try collect(file, UInt16.self) { Int(Int16(bitPattern: $0)) }
    case .int8: try collect(file, UInt8.self) { Int(Int8(bitPattern: $0)) }
    case .uint8, .bool: try collect(file, UInt8.self) { Int($0) }
    case .float64, .float32, .float16, .bfloat16: preconditionFailure("\(type.rawValue) is no integer type")
    }
  }

  private func convert<S: Scalar, Bits: FixedWidthInteger & BitwiseCopyable>(
    _ file: OpenFile, _ bits: Bits.Type, into tensor: Tensor<S>, _ value: (Bits) -> S
  ) throws(FileError) {
    var at = 0
    try forEachPiece(file, bits) { piece in
      for number in piece {
        tensor[at] = value(number)
        at += 1
      }
    }
  }

  private func collect<Bits: FixedWidthInteger & BitwiseCopyable>(
    _ file: OpenFile, _ bits: Bits.Type, _ value: (Bits) -> Int
  ) throws(FileError) -> [Int] {
    var values: [Int] = []
    values.reserveCapacity(count)
    try forEachPiece(file, bits) { piece in
      for number in piece { values.append(value(number)) }
    }
    return values
  }

  /// Calls `body` with the bit patterns of the numbers, a piece at a time.
  private func forEachPiece<Bits: FixedWidthInteger & BitwiseCopyable>(
    _ file: OpenFile, _: Bits.Type, _ body: ([Bits]) -> Void
  ) throws(FileError) {
    for first in stride(from: 0, to: count, by: Self.piece) {
      body(try file.read(min(Self.piece, count - first), of: Bits.self, at: offset + first * type.size))
    }
  }
}

/// An error of one file format, with the path of the file and the reason.
protocol FileFormatError: ExitCoded {
  init(path: String, reason: String, status: ExitStatus)
}

extension FileFormatError {
  init(path: String, reason: String) { self.init(path: path, reason: reason, status: .badData) }

  init(_ error: FileError, path: String) {
    self.init(path: path, reason: "cannot \(error.action) it: \(error.reason)", status: error.status)
  }

  /// Runs `body` and converts a failure of the system to an error of the file `path`.
  static func naming<R>(_ path: String, _ body: () throws(FileError) -> R) throws(Self) -> R {
    do throws(FileError) {
      return try body()
    } catch { throw Self(error, path: path) }
  }
}
