/// Memory that grows to its high-water mark and stays: what a layer keeps from forward to backward, or scratch.
///
/// Asking again gives the same memory, so one buffer serves one role. Growing drops the contents.
public final class Buffer<S: Scalar> {
  private var arena: Arena<S>?

  public init() {}

  /// A view of `shape` at the buffer's beginning; its contents are whatever was last written there.
  public func tensor(_ shape: Shape) -> Tensor<S> {
    if let arena, arena.count >= shape.count { return arena.tensor(shape) }
    arena = nil  // before the new one is allocated, so that the peak is the larger of the two and not their sum
    let grown = Arena<S>(count: shape.count)
    arena = grown
    return grown.tensor(shape)
  }

  /// Bytes held.
  public var bytes: Int { (arena?.count ?? 0) * MemoryLayout<S>.stride }

  /// Gives the memory back.
  public func release() { arena = nil }
}
