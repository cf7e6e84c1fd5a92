import Tensor

/// Consecutive numbers of one type in a file, little-endian.
struct StoredNumbers: Sendable {
  let type: SafetensorsType
  /// The first number's place in the file, in bytes.
  let offset: Int
  let count: Int

  /// Numbers converted at a time.
  private static let piece = 1 << 18

  /// Some of these numbers.
  func part(_ elements: Range<Int>) -> StoredNumbers {
    precondition(elements.lowerBound >= 0 && elements.upperBound <= count, "numbers \(elements) of \(count)")
    return StoredNumbers(type: type, offset: offset + elements.lowerBound * type.size, count: elements.count)
  }

  /// Fills a tensor of the same count. F16, BF16, F32 and F64 are converted to `S`; no other type may be read so.
  func read<S: Scalar>(_ file: OpenFile, into tensor: Tensor<S>) throws(FileError) {
    precondition(tensor.count == count, "\(count) numbers for a tensor of \(tensor.shape)")
    switch type {
    case .float32 where S.self == Float.self, .float64 where S.self == Double.self:
      // The file's byte order is that of every processor we build for.
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

  /// Integers; a boolean is as the file has it. No floating-point type may be read so.
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

  /// Lends the numbers, as bit patterns, some at a time.
  private func forEachPiece<Bits: FixedWidthInteger & BitwiseCopyable>(
    _ file: OpenFile, _: Bits.Type, _ body: ([Bits]) -> Void
  ) throws(FileError) {
    for first in stride(from: 0, to: count, by: Self.piece) {
      body(try file.read(min(Self.piece, count - first), of: Bits.self, at: offset + first * type.size))
    }
  }
}
