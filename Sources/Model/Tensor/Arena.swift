import Foundation

/// One block of numbers, aligned to 64 bytes and released once, which the `Tensor`s that are views into it keep alive.
/// It may also adopt memory that it does not own, such as a shared-memory window or a mapped file.
@safe
public final class Arena<S: BitwiseCopyable>: @unchecked Sendable {
  public static var alignment: Int { 64 }

  let base: UnsafeMutablePointer<S>
  public let count: Int
  private let release: () -> Void

  /// Allocates `count` numbers, all zero unless not `zeroed`.
  public init(count: Int, zeroed: Bool = true) {
    precondition(count >= 0)
    let bytes = max((count * MemoryLayout<S>.stride + Self.alignment - 1) / Self.alignment, 1) * Self.alignment
    guard let raw = aligned_alloc(Self.alignment, bytes) else {
      let numbers = S.self == UInt16.self ? "of bfloat16" : "for an arena of \(count) \(S.self)"
      fatalError("out of memory: \(bytes) bytes \(numbers)")
    }
    if zeroed { memset(raw, 0, bytes) }
    base = raw.bindMemory(to: S.self, capacity: max(count, 1))
    self.count = count
    release = { free(raw) }
  }

  /// Adopts memory that was allocated elsewhere, aligned to 64 bytes; `release` runs once, when the last view is gone.
  package init(adopting base: UnsafeMutablePointer<S>, count: Int, release: @escaping () -> Void) {
    precondition(Int(bitPattern: base) % Self.alignment == 0, "an arena's memory is aligned to 64 bytes")
    (self.base, self.count, self.release) = (base, count, release)
  }

  deinit { release() }

  /// Returns the view of `shape` that begins `offset` numbers into the arena.
  public func tensor(at offset: Int = 0, _ shape: Shape) -> Tensor<S> {
    precondition(offset >= 0 && offset + shape.count <= count, "\(shape) at \(offset) exceeds an arena of \(count)")
    return Tensor(owner: self, pointer: base + offset, shape: shape)
  }

  /// The whole arena as one vector.
  public var vector: Tensor<S> { tensor(Shape(count)) }
}

/// Memory that grows to its high-water mark and stays: a layer's activations, or scratch. Asking again returns the same
/// memory, so one buffer serves one purpose. Growing drops the contents.
public final class Buffer<S: BitwiseCopyable> {
  private var arena: Arena<S>?

  public init() {}
  /// Returns a view of `shape` at the buffer's beginning, which holds whatever was last written there.
  public func tensor(_ shape: Shape) -> Tensor<S> { memory(shape.count).tensor(shape) }

  func memory(_ count: Int, zeroed: Bool = true) -> Arena<S> {
    if let arena, arena.count >= count { return arena }
    arena = nil  // before the new one is allocated, so that the peak is the larger of the two and not their sum
    let grown = Arena<S>(count: count, zeroed: zeroed)
    arena = grown
    return grown
  }

  /// The bytes that the buffer holds.
  public var bytes: Int { (arena?.count ?? 0) * MemoryLayout<S>.stride }
  /// Frees the memory.
  public func release() { arena = nil }
}

/// A range of addresses for scalars, of which only the pages that were written, and not discarded since, take memory.
public final class ReservedArena<S: Scalar>: @unchecked Sendable {
  /// All scalars of the range. Those that were never written, or were discarded, are zero.
  public let values: Tensor<S>
  private let base: UnsafeMutableRawPointer
  private let bytes: Int
  private let page = Int(sysconf(Int32(_SC_PAGESIZE)))

  public init(count: Int) {
    precondition(count >= 0)
    let bytes = max((count * MemoryLayout<S>.stride + page - 1) / page, 1) * page
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    guard let base = mmap(nil, bytes, PROT_READ | PROT_WRITE, flags, -1, 0), base != MAP_FAILED else {
      fatalError("no addresses for \(bytes) bytes: see ulimit -v")
    }
    (self.base, self.bytes) = (base, bytes)
    let scalars = base.bindMemory(to: S.self, capacity: max(count, 1))
    values = Arena(adopting: scalars, count: count) { munmap(base, bytes) }.vector
  }

  /// Frees the memory of these elements, except on pages that they share with others.
  public func discard(_ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= values.count, "\(range) of \(values.shape)")
    let start = (range.lowerBound * MemoryLayout<S>.stride + page - 1) / page * page
    let end = range.upperBound * MemoryLayout<S>.stride / page * page
    guard start < end else { return }
    let code = madvise(base + start, end - start, MADV_DONTNEED)
    precondition(code == 0, "madvise refused pages of our own: errno \(errno)")
  }

  /// The bytes that take memory now, as the operating system counts them.
  public var residentBytes: Int {
    var pages = [UInt8](repeating: 0, count: bytes / page)
    let code = mincore(base, bytes, &pages)
    precondition(code == 0, "mincore refused pages of our own: errno \(errno)")
    return pages.reduce(0) { $0 + Int($1 & 1) } * page
  }
}

/// Raw scratch memory that grows to its high-water mark; growing drops the contents.
struct ScratchMemory: @unchecked Sendable {
  private var memory: UnsafeMutableRawPointer?
  private var bytes = 0

  mutating func room(_ bytes: Int) -> UnsafeMutableRawPointer {
    if bytes > self.bytes || memory == nil {
      free(memory)
      self.bytes = (bytes + 63) / 64 * 64
      memory = aligned_alloc(64, max(self.bytes, 64))
    }
    guard let memory else { fatalError("out of memory: \(bytes) bytes of scratch") }
    return memory
  }
}
