internal import Foundation
internal import Tensor

/// What a file says of a tensor before its numbers.
public struct TensorDescription: Hashable, Sendable {
  public let name: String
  public let type: SafetensorsType
  public let shape: [Int]

  public init(name: String, type: SafetensorsType, shape: [Int]) {
    self.name = name
    self.type = type
    self.shape = shape
  }

  var count: Int { shape.reduce(1, *) }
  public var byteCount: Int { shape.reduce(type.size, *) }
}

/// A tensor of a file that is made from checkpoints.
public struct MergedTensor: Sendable {
  enum Content: Sendable {
    /// What the checkpoints hold of a parameter.
    case scalars(CheckpointPart.Group, String)
    /// Few numbers, as they are.
    case values([Double])
  }

  public let description: TensorDescription
  let content: Content

  /// A parameter's values, or their moving average, as F32 under its own name.
  public static func values(of name: String, _ shape: [Int], averaged: Bool) -> MergedTensor {
    MergedTensor(name, .float32, shape, .scalars(averaged ? .average : .parameters, name))
  }

  /// The moving average of a parameter beside its values, as F32 under `ema.NAME`.
  public static func average(of name: String, _ shape: [Int]) -> MergedTensor {
    MergedTensor("\(averagePrefix)\(name)", .float32, shape, .scalars(.average, name))
  }

  /// AdamW's moments of a parameter, as F32 under `optimizer.moment1.NAME` and `optimizer.moment2.NAME`.
  public static func moments(of name: String, _ shape: [Int]) -> [MergedTensor] {
    [CheckpointPart.Group.moment1, .moment2].map {
      MergedTensor("\(optimizerPrefix)\($0.rawValue).\(name)", .float32, shape, .scalars($0, name))
    }
  }

  /// A small array; numbers of an integer type must be integers.
  public static func array(_ array: CheckpointRecord.Array, as type: SafetensorsType) -> MergedTensor {
    precondition([.float32, .float64, .int64].contains(type), "\(type.rawValue) is not what arrays are stored as")
    return MergedTensor(array.name, type, array.shape, .values(array.values))
  }

  /// What the names of tensors that only an optimizer needs begin with.
  public static let optimizerPrefix = "optimizer."

  /// What the names of moving averages begin with, where they stand beside the values.
  public static let averagePrefix = "ema."

  private init(_ name: String, _ type: SafetensorsType, _ shape: [Int], _ content: Content) {
    description = TensorDescription(name: name, type: type, shape: shape)
    self.content = content
  }
}

/// Consecutive numbers of a tensor as they lie in a file.
enum TensorPiece {
  case floats(Tensor<Float>)
  case doubles(Tensor<Double>)
  case integers([Int64])

  /// Lends out the bytes.
  @unsafe func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    switch self {
    case .floats(let tensor):
      try unsafe tensor.withUnsafeMutableBuffer { buffer throws(E) in try unsafe body(UnsafeRawBufferPointer(buffer)) }
    case .doubles(let tensor):
      try unsafe tensor.withUnsafeMutableBuffer { buffer throws(E) in try unsafe body(UnsafeRawBufferPointer(buffer)) }
    case .integers(let values):
      try unsafe values.withUnsafeBufferPointer { buffer throws(E) in try unsafe body(UnsafeRawBufferPointer(buffer)) }
    }
  }
}
