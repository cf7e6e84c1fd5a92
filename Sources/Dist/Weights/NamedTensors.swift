public import Tensor

/// A file of weights in any format: named tensors whose numbers are read on demand, from any thread.
public protocol NamedTensors: Sendable {
  var path: String { get }
  /// The names of the tensors, in the file's own order.
  var names: [String] { get }
  /// The writer's notes about the weights, if the format can store them.
  var metadata: [String: String] { get }

  func contains(_ name: String) -> Bool
  /// Returns where and how a tensor is stored. Throws if there is none of this name.
  func stored(_ name: String) throws -> StoredTensor
  /// Returns the numbers of an integer tensor in row-major order.
  func integers(_ name: String) throws -> [Int]
  /// Returns true if the file is the one that its checksum inside promises, and false if it has none. Throws if it was
  /// altered. A tensor of 32-bit floats that was read before, and that `values` returns unchanged, is not read again.
  @discardableResult
  func verify(having values: (_ name: String) -> Tensor<Float>?) throws -> Bool
}

extension NamedTensors {
  /// Returns the shape of a tensor; `[]` is one number. Throws for more than four dimensions.
  public func shape(of name: String) throws -> Shape {
    let tensor = try stored(name)
    if let shape = Shape(tensor.shape) { return shape }
    throw tensor.problem("has the shape \(tensor.shape); at most four sizes can be used")
  }

  /// Returns the type of a tensor's numbers. Throws if there is none of this name.
  public func type(of name: String) throws -> SafetensorsType { try stored(name).type }

  /// Fills a tensor of the same count with floating-point numbers, rounded to nearest if `S` is narrower than the
  /// file's type. Throws for integers.
  public func read<S: Scalar>(_ name: String, into tensor: Tensor<S>) throws {
    let stored = try stored(name)
    guard stored.count == tensor.count else {
      throw stored.problem("has the shape \(stored.shape), expected \(tensor.shape)")
    }
    try stored.read(0..<stored.count, into: tensor)
  }

  /// Does the same for a range of a tensor's numbers in row-major order, and reads no more than necessary.
  public func read<S: Scalar>(_ name: String, elements: Range<Int>, into tensor: Tensor<S>) throws {
    try stored(name).read(elements, into: tensor)
  }

  public func integers(_ name: String) throws -> [Int] { try stored(name).integers() }

  @discardableResult
  public func verify(having values: (_ name: String) -> Tensor<Float>?) throws -> Bool { false }
}

/// A tensor in a file: little-endian numbers of one type, or a strided view of them.
public struct StoredTensor: Sendable {
  let name: String
  let type: SafetensorsType
  let shape: [Int]
  /// The distance from one index to the next, in stored numbers, of each dimension; nil if row-major without gaps.
  let strides: [Int]?
  let file: OpenFile
  /// The offset of the first number in the file, in bytes.
  let offset: Int
  /// The number of stored numbers from the tensor's first to its last, including those in between that it skips.
  let span: Int
  /// The error of the file's format.
  let format: any FileFormatError.Type

  /// How many numbers are converted at a time.
  private static let piece = 1 << 18
  /// The number of the tensor's elements.
  var count: Int { strides == nil ? span : shape.reduce(1, *) }

  func problem(_ reason: String) -> any Error { format.init(path: file.path, reason: "tensor \(name) \(reason)") }

  /// Fills a tensor of the same count with a range of the elements, which must be floating-point numbers.
  func read<S: Scalar>(_ elements: Range<Int>, into tensor: Tensor<S>) throws {
    guard elements.lowerBound >= 0, elements.upperBound <= count else {
      throw problem("has the shape \(shape), expected at least \(elements.upperBound) numbers")
    }
    guard type.isFloatingPoint else { throw problem("holds \(type.rawValue), expected floating-point numbers") }
    guard let strides else { return try naming { () throws(FileError) in try load(elements, into: tensor) } }
    let stored = Tensor<S>(Shape(span))
    try naming { () throws(FileError) in try load(0..<span, into: stored) }
    forEachIndex(strides) { element, index in
      if elements.contains(element) { tensor[element - elements.lowerBound] = stored[index] }
    }
  }

  /// Returns all elements, which must be integers or booleans. Booleans keep the file's value.
  func integers() throws -> [Int] {
    guard !type.isFloatingPoint else { throw problem("holds \(type.rawValue), expected integers") }
    let stored = try naming(loadIntegers)
    guard let strides else { return stored }
    // An expanded tensor may claim any number of elements; more than the file holds are never needed.
    guard count <= span else { throw problem("has the shape \(shape), expected at most \(span) numbers") }
    var values = [Int](repeating: 0, count: count)
    forEachIndex(strides) { values[$0] = stored[$1] }
    return values
  }

  private func naming<R>(_ body: () throws(FileError) -> R) throws -> R {
    do throws(FileError) { return try body() } catch { throw format.init(error, path: file.path) }
  }

  /// Fills a tensor of the same count with a range of the stored numbers, converted to `S`.
  private func load<S: Scalar>(_ range: Range<Int>, into tensor: Tensor<S>) throws(FileError) {
    precondition(tensor.count == range.count, "\(range.count) numbers for a tensor of \(tensor.shape)")
    switch type {
    case .float32 where S.self == Float.self, .float64 where S.self == Double.self:
      // Every processor that we build for has the file's byte order.
      try unsafe tensor.withUnsafeMutableBuffer { buffer throws(FileError) in
        try unsafe file.read(into: UnsafeMutableRawBufferPointer(buffer), at: offset + range.lowerBound * type.size)
      }
    case .float64: try forEach(range, UInt64.self) { tensor[$0] = S(Double(bitPattern: $1)) }
    case .float32: try forEach(range, UInt32.self) { tensor[$0] = S(Float(bitPattern: $1)) }
    case .float16: try forEach(range, UInt16.self) { tensor[$0] = S(Float16(bitPattern: $1)) }
    case .bfloat16: try forEach(range, UInt16.self) { tensor[$0] = S(Float(bitPattern: UInt32($1) << 16)) }
    case .int64, .int32, .int16, .int8, .uint8, .bool:
      preconditionFailure("\(type.rawValue) is no floating-point type")
    }
  }

  private func loadIntegers() throws(FileError) -> [Int] {
    var values: [Int] = []
    values.reserveCapacity(span)
    switch type {
    case .int64: try forEach(0..<span, Int64.self) { values.append(Int($1)) }
    case .int32: try forEach(0..<span, Int32.self) { values.append(Int($1)) }
    case .int16: try forEach(0..<span, Int16.self) { values.append(Int($1)) }
    case .int8: try forEach(0..<span, Int8.self) { values.append(Int($1)) }
    case .uint8, .bool: try forEach(0..<span, UInt8.self) { values.append(Int($1)) }
    case .float64, .float32, .float16, .bfloat16: preconditionFailure("\(type.rawValue) is no integer type")
    }
    return values
  }

  /// Calls `body` with the stored numbers in `range` and their indices from 0, and reads a piece of them at a time.
  private func forEach<I: FixedWidthInteger & BitwiseCopyable>(
    _ range: Range<Int>, _: I.Type, _ body: (_ index: Int, _ number: I) -> Void
  ) throws(FileError) {
    for first in stride(from: 0, to: range.count, by: Self.piece) {
      let at = offset + (range.lowerBound + first) * type.size
      let piece = try file.read(min(Self.piece, range.count - first), of: I.self, at: at)
      for index in piece.indices { body(first + index, piece[index]) }
    }
  }

  /// Calls `body` with each element's row-major index and its index among the stored numbers.
  private func forEachIndex(_ strides: [Int], _ body: (_ element: Int, _ stored: Int) -> Void) {
    var index = [Int](repeating: 0, count: shape.count)
    var from = 0
    for at in 0..<count {
      body(at, from)
      for axis in shape.indices.reversed() {
        index[axis] += 1
        from += strides[axis]
        if index[axis] < shape[axis] { break }
        from -= index[axis] * strides[axis]
        index[axis] = 0
      }
    }
  }
}

/// An error of one file format, with the path of the file and the reason.
protocol FileFormatError: ExitCoded { init(path: String, reason: String, status: ExitStatus) }

extension FileFormatError {
  init(path: String, reason: String) { self.init(path: path, reason: reason, status: .badData) }

  init(_ error: FileError, path: String) {
    self.init(path: path, reason: "cannot \(error.action) it: \(error.reason)", status: error.status)
  }

  /// The error of a file without a tensor `name`.
  init(missing name: String, in file: some NamedTensors) {
    let first = file.names.prefix(5).joined(separator: ", ")
    self.init(path: file.path, reason: "it has no tensor \(name); it has \(file.names.count), among them \(first)")
  }

  /// Runs `body` and converts a failure of the system to an error of the file `path`.
  static func naming<R>(_ path: String, _ body: () throws(FileError) -> R) throws(Self) -> R {
    do throws(FileError) { return try body() } catch { throw Self(error, path: path) }
  }

  /// Opens a file to read.
  static func opening(_ path: String) throws(Self) -> OpenFile {
    try naming(path) { () throws(FileError) in try OpenFile.reading(path) }
  }

  /// Returns a range of a file's bytes.
  static func bytes(_ range: Range<Int>, of file: OpenFile) throws(Self) -> [UInt8] {
    try naming(file.path) { () throws(FileError) in try file.read(range.count, of: UInt8.self, at: range.lowerBound) }
  }
}
