import Dispatch
import Synchronization

/// The compute threads of this process, for kernels and BLAS alike; set once, from the cores that it is bound to.
public enum Threads {
  private static let planned = Atomic<Int>(1)
  private static let plannedForProducts = Atomic<Int>(1)

  /// The number of threads that a kernel may use, including the caller's; at least 1.
  public static var count: Int {
    get { planned.load(ordering: .relaxed) }
    set {
      planned.store(max(newValue, 1), ordering: .relaxed)
      ofProducts = max(newValue, 1)
    }
  }

  /// The number of threads of a matrix product: all, or one while several products run side by side.
  private(set) static var ofProducts: Int {
    get { plannedForProducts.load(ordering: .relaxed) }
    set {
      plannedForProducts.store(newValue, ordering: .relaxed)
      setMatrixProductThreads(newValue)
    }
  }

  /// Splits 0 ..< n into consecutive ranges, at most one per thread and each at least `grain` long if n allows; runs
  /// `body` on all of them, with the index of each range, and returns when all are done.
  static func split(_ n: Int, grain: Int = 1, _ body: (_ part: Int, _ range: Range<Int>) -> Void) {
    let parts = Self.parts(n, grain: grain)
    if parts == 1 {
      if n > 0 { body(0, 0..<n) }
      return
    }
    withoutActuallyEscaping(body) { body in
      let job = Shared(body: body)
      DispatchQueue.concurrentPerform(iterations: parts) { part in
        job.body(part, (part * n / parts)..<((part + 1) * n / parts))
      }
    }
  }

  /// Splits like `split`, and runs `body` on each number.
  @inline(__always) static func forEach(_ n: Int, grain: Int = 1, _ body: (Int) -> Void) {
    split(n, grain: grain) { _, range in for i in range { body(i) } }
  }

  /// Returns the number of ranges that `split` makes of n.
  static func parts(_ n: Int, grain: Int) -> Int { max(min(count, n / max(grain, 1)), 1) }

  /// Splits like `split`, for bodies that call matrix products: each product stays on the thread that calls it.
  static func splitProducts(_ n: Int, _ body: (_ part: Int, _ range: Range<Int>) -> Void) {
    let threads = count
    guard threads > 1, n > 1 else { return split(n, body) }
    ofProducts = 1
    Profile.besideOthers.store(true, ordering: .relaxed)
    split(n, body)
    Profile.besideOthers.store(false, ordering: .relaxed)
    ofProducts = threads
  }

  private struct Shared: @unchecked Sendable { let body: (Int, Range<Int>) -> Void }
}

/// Lends `count` zeros for partial sums: on the stack if they are few, otherwise in memory that later calls use again.
@inline(__always)
func withPartialSums<S: Scalar>(of type: S.Type, count: Int, _ body: (UnsafeMutablePointer<S>) -> Void) {
  let bytes = count * MemoryLayout<S>.stride
  guard bytes > 1024 else {
    return withUnsafeTemporaryAllocation(of: S.self, capacity: count) { buffer in
      buffer.initialize(repeating: 0)
      body(buffer.baseAddress!)
    }
  }
  var memory = idleSums.withLock { $0.popLast() } ?? ScratchMemory()
  let sums = memory.room(bytes).bindMemory(to: S.self, capacity: count)
  sums.initialize(repeating: 0, count: count)
  body(sums)
  idleSums.withLock { $0.append(memory) }
}

/// Memory for partial sums that is not in use. Nested calls take several blocks, the same ones every time.
private let idleSums = Mutex<[ScratchMemory]>([])
