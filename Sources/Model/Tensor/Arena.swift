import Foundation

/// One block of scalars, aligned to 64 bytes, released once.
///
/// Parameters, gradients, moments and activations live in arenas; a `Tensor` is a view into one and keeps it alive.
/// An arena may also adopt memory that it does not own (a shared window, a mapped file).
@safe
public final class Arena<S: Scalar>: @unchecked Sendable {
  public static var alignment: Int { 64 }

  let base: UnsafeMutablePointer<S>
  public let count: Int
  private let release: () -> Void

  /// Allocates `count` scalars, all zero.
  public init(count: Int) {
    precondition(count >= 0)
    let bytes = max((count * MemoryLayout<S>.stride + Self.alignment - 1) / Self.alignment, 1) * Self.alignment
    guard let raw = aligned_alloc(Self.alignment, bytes) else {
      fatalError("out of memory: \(bytes) bytes for an arena of \(count) \(S.self)")
    }
    memset(raw, 0, bytes)
    base = raw.bindMemory(to: S.self, capacity: max(count, 1))
    self.count = count
    release = { free(raw) }
  }

  /// Adopts memory that somebody else allocated, aligned to 64 bytes; `release` runs once, when the last view is gone.
  package init(adopting base: UnsafeMutablePointer<S>, count: Int, release: @escaping () -> Void) {
    precondition(Int(bitPattern: base) % Self.alignment == 0, "an arena's memory is aligned to 64 bytes")
    self.base = base
    self.count = count
    self.release = release
  }

  deinit { release() }

  /// The view of `shape` that begins `offset` scalars into the arena.
  public func tensor(at offset: Int = 0, _ shape: Shape) -> Tensor<S> {
    precondition(offset >= 0 && offset + shape.count <= count, "\(shape) at \(offset) exceeds an arena of \(count)")
    return Tensor(owner: self, pointer: base + offset, shape: shape)
  }

  /// All of the arena as one vector.
  public var vector: Tensor<S> { tensor(Shape(count)) }
}
