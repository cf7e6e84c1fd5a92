import Foundation

/// Numbers rounded to bfloat16, as matrix products may read them: the upper half of a Float, 8 significant bits.
///
/// Nothing is computed in them. A view into a `RoundedBuffer`; copying it copies the view.
@safe
public struct Rounded: @unchecked Sendable {
  let owner: RoundedArena
  let pointer: UnsafeMutablePointer<UInt16>
  public let shape: Shape

  public var rows: Int { shape.rows }
  public var columns: Int { shape.columns }

  func reshaped(_ shape: Shape) -> Rounded {
    precondition(shape.count == self.shape.count, "\(self.shape) cannot be seen as \(shape)")
    return Rounded(owner: owner, pointer: pointer, shape: shape)
  }

  func rows(_ range: Range<Int>) -> Rounded {
    precondition(range.lowerBound >= 0 && range.upperBound <= rows, "rows \(range) of \(shape)")
    return Rounded(owner: owner, pointer: pointer + range.lowerBound * columns, shape: Shape(range.count, columns))
  }

  /// The numbers again, for tests.
  package var array: [Float] {
    (0..<shape.count).map { Float(bitPattern: UInt32(pointer[$0]) << 16) }
  }
}

/// The memory of rounded numbers, aligned to 64 bytes.
final class RoundedArena {
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

/// Memory for rounded numbers that grows to its high-water mark and stays, as `Buffer` is for exact ones.
public final class RoundedBuffer {
  private var arena: RoundedArena?

  public init() {}

  /// Bytes held.
  public var bytes: Int { (arena?.count ?? 0) * 2 }

  /// What was last written at `offset` of the buffer, which has room for `count` numbers; growing drops the contents.
  func view(_ shape: Shape, at offset: Int = 0, of count: Int? = nil) -> Rounded {
    let count = max(count ?? 0, offset + shape.count)
    if let arena, arena.count >= count { return Rounded(owner: arena, pointer: arena.base + offset, shape: shape) }
    arena = nil
    let grown = RoundedArena(count: count)
    arena = grown
    return Rounded(owner: grown, pointer: grown.base + offset, shape: shape)
  }
}

/// y ← x, rounded to nearest, ties to even; what is not a number stays so.
@specialized(where S == Float)
@specialized(where S == Double)
public func round<S: Scalar>(_ x: Tensor<S>, into y: Rounded) {
  precondition(x.count == y.shape.count, "\(x.shape) rounded into \(y.shape)")
  let (p, q) = (x.pointer, y.pointer)
  Threads.split(x.count, grain: 1 << 15) { _, range in
    for i in range { q[i] = bfloat16(p[i]) }
  }
}

/// y ← x.
@specialized(where S == Float)
@specialized(where S == Double)
func widen<S: Scalar>(_ x: Rounded, into y: Tensor<S>) {
  precondition(x.shape.count == y.count, "\(x.shape) copied into \(y.shape)")
  let (p, q) = (RoundedElements<S>(x), y.pointer)
  Threads.split(y.count, grain: 1 << 15) { _, range in
    for i in range { q[i] = p[i] }
  }
}
