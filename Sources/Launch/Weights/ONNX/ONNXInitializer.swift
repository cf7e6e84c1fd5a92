import Dist
import ONNXFormat
import Tensor

/// A tensor that a graph brings along. Its numbers are computed when they are written, one tensor at a time, so that no
/// second copy of a model is in memory.
struct ONNXInitializer {
  let name: String
  let type: ONNXType
  let shape: [Int]
  /// Computes the numbers, row-major, in the bytes of a file.
  let bytes: () -> [UInt8]

  var byteCount: Int { shape.reduce(type.byteCount, *) }

  /// The tensor's name, type and shape, without its numbers.
  var description: Onnx_TensorProto {
    var tensor = Onnx_TensorProto()
    tensor.name = name
    tensor.dataType = Int32(type.rawValue)
    tensor.dims = shape.map { Int64($0) }
    return tensor
  }
}

extension ONNXType {
  /// The size of a number in bytes, of the types that our graphs have.
  var byteCount: Int {
    switch self {
    case .int8, .uint8: 1
    case .float16: 2
    case .float, .int32: 4
    case .int64: 8
    default: preconditionFailure("no initializer of ours holds \(self)")
    }
  }
}

/// The numbers of which initializers are made: a parameter, some of its rows, or what several parameters give.
struct ONNXWeight {
  let name: String
  let shape: [Int]
  /// Computes the numbers, row-major.
  let values: () -> [Float]

  var rows: Int { shape[0] }
  var columns: Int { shape.dropFirst().reduce(1, *) }

  /// The transpose of a matrix, under the name with `.T` behind it.
  var transposed: ONNXWeight {
    ONNXWeight(name: "\(name).T", shape: shape.reversed()) {
      self.values().transposed(rows: self.rows, columns: self.columns)
    }
  }

  /// Returns the initializer with these numbers in 32 or in 16 bits. Throws a `UserError` for numbers that are not
  /// finite, or that 16 bits cannot hold.
  func initializer(_ type: ONNXType) throws -> ONNXInitializer {
    let numbers = try finiteValues()
    guard type == .float16 else {
      return ONNXInitializer(name: name, type: .float, shape: shape) { values().map(\.bitPattern).littleEndianBytes }
    }
    if let value = numbers.first(where: { !Float16($0).isFinite }) {
      throw UserError("\(name) holds \(value), and numbers of 16 bits end at ±65504; write the model with --type fp32")
    }
    return ONNXInitializer(name: name, type: .float16, shape: shape) {
      values().map { Float16($0).bitPattern }.littleEndianBytes
    }
  }

  /// Computes the numbers. Throws a `UserError` if some are not finite: no embedding of such a model would be.
  func finiteValues() throws -> [Float] {
    let numbers = values()
    guard let first = numbers.first(where: { !$0.isFinite }) else { return numbers }
    let count = numbers.count(where: { !$0.isFinite })
    throw UserError(
      "\(name) holds numbers that are not finite, \(count) of \(numbers.count), the first is \(first): the model has "
        + "diverged; take an earlier checkpoint", status: .notFinite)
  }
}

extension Array {
  /// Returns the transpose of a row-major matrix.
  func transposed(rows: Int, columns: Int) -> [Element] {
    var result: [Element] = []
    result.reserveCapacity(count)
    for column in 0..<columns { for row in 0..<rows { result.append(self[row * columns + column]) } }
    return result
  }
}

/// Weights as whole numbers: w[o, :] ≈ s[o] q[o, :], where the scale s[o] = max |w[o, :]| / limit is an output
/// channel's own, and q is rounded to the nearest number from −limit to limit, halves to even.
struct QuantizedWeight {
  let weight: ONNXWeight
  let limit: Float
  /// One scale for each output channel, which is a row of the weight.
  let scales: [Float]

  /// Computes the scales. Throws a `UserError` for numbers that are not finite.
  init(_ weight: ONNXWeight, limit: Float) throws {
    let (values, columns) = (try weight.finiteValues(), weight.columns)
    (self.weight, self.limit) = (weight, limit)
    scales = (0..<weight.rows).map { row in
      let largest = values[row * columns..<(row + 1) * columns].reduce(0) { max($0, $1.magnitude) }
      // A row of zeros, or of numbers so small that 1/s would overflow, becomes zeros.
      return (largest / limit).isNormal ? largest / limit : 1
    }
  }

  /// Computes the whole numbers, row-major.
  var numbers: [Int8] {
    let columns = weight.columns
    return weight.values().enumerated().map { index, value in
      let quotient = (value / scales[index / columns]).rounded(.toNearestOrEven)
      return Int8(min(max(quotient, -limit), limit))
    }
  }
}
