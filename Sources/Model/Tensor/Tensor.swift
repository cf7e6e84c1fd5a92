public import RealModule

/// The number type of a model: Float for training, Double for tests of the mathematics.
///
/// Layers and loss terms are written once over `Scalar`. Each kernel is a generic function that the compiler
/// specializes for Float and Double, so a generic caller pays one dispatch per kernel and not one per element.
public protocol Scalar: Real, BinaryFloatingPoint, SIMDScalar, Codable, Sendable, VectorMath, MatrixProduct,
  RoundedProduct
{}

extension Float: Scalar {}
extension Double: Scalar {}

/// A contiguous row-major view into an arena.
///
/// Copying a tensor copies the view and not the numbers: two views of one arena see each other's writes.
@safe
public struct Tensor<S: Scalar>: @unchecked Sendable {
  let owner: Arena<S>
  let pointer: UnsafeMutablePointer<S>
  public let shape: Shape

  init(owner: Arena<S>, pointer: UnsafeMutablePointer<S>, shape: Shape) {
    (self.owner, self.pointer, self.shape) = (owner, pointer, shape)
  }

  /// Allocates a tensor of zeros in an arena of its own.
  public init(_ shape: Shape) { self = Arena<S>(count: shape.count).tensor(shape) }

  /// Allocates a tensor that holds `values`, row-major, in an arena of its own.
  public init(_ shape: Shape, _ values: some Collection<S>) {
    precondition(values.count == shape.count, "\(values.count) values for a tensor of \(shape)")
    self.init(shape)
    var at = 0
    for value in values {
      pointer[at] = value
      at += 1
    }
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
  ) throws(E) -> R {
    try body(UnsafeMutableBufferPointer(start: pointer, count: count))
  }
}
