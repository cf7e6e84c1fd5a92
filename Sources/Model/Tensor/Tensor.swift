public import RealModule

/// The number type of a model: Float for training, Double for tests of the mathematics. Kernels are generic functions
/// that the compiler specializes for both, so a generic caller pays one dispatch per kernel and not one per element.
public protocol Scalar: Real, BinaryFloatingPoint, SIMDScalar, BitwiseCopyable, Codable, Sendable, VectorMath,
  MatrixProduct
{}

extension Float: Scalar {}
extension Double: Scalar {}

/// A contiguous row-major view into an arena. A copy is another view of the same numbers.
@safe
public struct Tensor<S: BitwiseCopyable>: @unchecked Sendable {
  let owner: Arena<S>
  let pointer: UnsafeMutablePointer<S>
  public let shape: Shape

  var bytes: UnsafeMutableRawPointer { UnsafeMutableRawPointer(pointer) }

  init(owner: Arena<S>, pointer: UnsafeMutablePointer<S>, shape: Shape) {
    (self.owner, self.pointer, self.shape) = (owner, pointer, shape)
  }

  /// Allocates a tensor of zeros in an arena of its own.
  public init(_ shape: Shape) { self = Arena<S>(count: shape.count).tensor(shape) }

  /// Allocates a tensor that holds `values`, row-major, in an arena of its own.
  public init(_ shape: Shape, _ values: some Collection<S>) {
    precondition(values.count == shape.count, "\(values.count) values for a tensor of \(shape)")
    self.init(shape)
    for (at, value) in values.enumerated() { pointer[at] = value }
  }

  public var count: Int { shape.count }
  public var rows: Int { shape.rows }
  public var columns: Int { shape.columns }

  public subscript(index: Int) -> S {
    get {
      precondition(index >= 0 && index < count, "element \(index) of a tensor of \(shape)")
      return pointer[index]
    }
    nonmutating set {
      precondition(index >= 0 && index < count, "element \(index) of a tensor of \(shape)")
      pointer[index] = newValue
    }
  }

  /// Returns whether both views begin at the same address.
  public func isSameMemory(as other: Tensor) -> Bool { pointer == other.pointer }

  /// Returns a view of the same numbers with another shape of equal count.
  public func reshaped(_ shape: Shape) -> Tensor {
    precondition(shape.count == count, "\(self.shape) cannot be seen as \(shape)")
    return Tensor(owner: owner, pointer: pointer, shape: shape)
  }

  /// Returns a view of consecutive rows, with as many columns.
  public func rows(_ range: Range<Int>) -> Tensor {
    precondition(range.lowerBound >= 0 && range.upperBound <= rows, "rows \(range) of a tensor of \(shape)")
    return Tensor(owner: owner, pointer: pointer + range.lowerBound * columns, shape: Shape(range.count, columns))
  }

  /// Returns a view of consecutive elements as a vector.
  public func slice(_ range: Range<Int>) -> Tensor {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "elements \(range) of a tensor of \(shape)")
    return Tensor(owner: owner, pointer: pointer + range.lowerBound, shape: Shape(range.count))
  }

  public var array: [S] { Array(UnsafeBufferPointer(start: pointer, count: count)) }

  /// Lends the raw memory to `body`: the only access from outside this module, for MPI, HDF5 and tests.
  package func withUnsafeMutableBuffer<R, E: Error>(
    _ body: (UnsafeMutableBufferPointer<S>) throws(E) -> R
  ) throws(E) -> R { try body(UnsafeMutableBufferPointer(start: pointer, count: count)) }
}
