import Foundation

/// A matrix of bfloat16 numbers: the upper half of a Float, with 8 significant bits.
///
/// It is a view into a `BFloat16Buffer`; copying it copies the view. Matrix products read and write it, but no sum is
/// held in bfloat16.
@safe
public struct BFloat16Matrix: @unchecked Sendable {
  let owner: BFloat16Arena
  let pointer: UnsafeMutablePointer<UInt16>
  public let shape: Shape

  public var rows: Int { shape.rows }
  public var columns: Int { shape.columns }

  func reshaped(_ shape: Shape) -> BFloat16Matrix {
    precondition(shape.count == self.shape.count, "\(self.shape) cannot be seen as \(shape)")
    return BFloat16Matrix(owner: owner, pointer: pointer, shape: shape)
  }

  func rows(_ range: Range<Int>) -> BFloat16Matrix {
    precondition(range.lowerBound >= 0 && range.upperBound <= rows, "rows \(range) of \(shape)")
    return BFloat16Matrix(
      owner: owner, pointer: pointer + range.lowerBound * columns, shape: Shape(range.count, columns))
  }

  /// The numbers as Floats, for tests.
  package var array: [Float] {
    (0..<shape.count).map { Float(bitPattern: UInt32(pointer[$0]) << 16) }
  }
}

/// A block of bfloat16 numbers, aligned to 64 bytes.
final class BFloat16Arena {
  let base: UnsafeMutablePointer<UInt16>
  let count: Int

  init(count: Int) {
    let bytes = max((count * 2 + 63) / 64, 1) * 64
    guard let raw = aligned_alloc(64, bytes) else { fatalError("out of memory: \(bytes) bytes of bfloat16") }
    base = raw.bindMemory(to: UInt16.self, capacity: bytes / 2)
    self.count = count
  }

  deinit { free(base) }
}

/// Memory for bfloat16 numbers that grows to its high-water mark and stays, as a `Buffer` does for scalars.
public final class BFloat16Buffer {
  private var arena: BFloat16Arena?

  public init() {}

  /// The bytes that the buffer holds.
  public var bytes: Int { (arena?.count ?? 0) * 2 }

  /// Returns a view of `shape` at `offset` of the buffer, which holds whatever was last written there. The buffer gets
  /// room for `count` numbers; growing drops its contents.
  func view(_ shape: Shape, at offset: Int = 0, of count: Int? = nil) -> BFloat16Matrix {
    let count = max(count ?? 0, offset + shape.count)
    if let arena, arena.count >= count {
      return BFloat16Matrix(owner: arena, pointer: arena.base + offset, shape: shape)
    }
    arena = nil
    let grown = BFloat16Arena(count: count)
    arena = grown
    return BFloat16Matrix(owner: grown, pointer: grown.base + offset, shape: shape)
  }
}

/// y ← x, rounded to nearest, ties to even; NaN stays NaN.
@specialized(where S == Float) @specialized(where S == Double)
public func round<S: Scalar>(_ x: Tensor<S>, into y: BFloat16Matrix) {
  precondition(x.count == y.shape.count, "\(x.shape) rounded into \(y.shape)")
  let (p, q) = (x.pointer, y.pointer)
  Threads.split(x.count, grain: 1 << 15) { _, range in
    for i in range { q[i] = bfloat16(p[i]) }
  }
}

/// y ← x.
@specialized(where S == Float) @specialized(where S == Double)
func widen<S: Scalar>(_ x: BFloat16Matrix, into y: Tensor<S>) {
  precondition(x.shape.count == y.count, "\(x.shape) copied into \(y.shape)")
  let (p, q) = (BFloat16Elements<S>(x), y.pointer)
  Threads.split(y.count, grain: 1 << 15) { _, range in
    for i in range { q[i] = p[i] }
  }
}
