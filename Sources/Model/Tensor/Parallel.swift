import Dispatch
import Foundation
import Synchronization

/// The compute threads of this process, for kernels and BLAS alike; set once, from the cores that it is bound to.
public enum Threads {
  private static let planned = Atomic<Int>(1)
  private static let plannedForProducts = Atomic<Int>(1)

  /// The number of threads that a kernel may use, including the caller's; at least 1. It becomes less than what it is
  /// set to if the system does not let this process have as many.
  public static var count: Int {
    get { planned.load(ordering: .relaxed) }
    set {
      let granted = granted(max(newValue, 1))
      planned.store(granted, ordering: .relaxed)
      ofProducts = granted
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

// MARK: Limits

extension Threads {
  /// The largest number of threads that was granted so far.
  private static let largest = Atomic<Int>(1)
  /// The pools with a thread for each compute thread but the caller's: those of Dispatch, OpenBLAS and oneDNN.
  private static let pools = 3
  /// The threads that are left to loaders, communication and watchdogs.
  private static let spare = 4
  /// The bytes of addresses that OpenBLAS reserves for each thread. It asks for ever where there are none left.
  private static let buffer = 128 << 20

  /// Returns how many of `wanted` threads can be used. None of the pools goes on without a thread that the system has
  /// refused: two wait for it for ever, and the third ends the process. So all are tried out before.
  private static func granted(_ wanted: Int) -> Int {
    let before = largest.load(ordering: .relaxed)
    guard wanted > before else { return wanted }
    let needed = pools * (wanted - before) + spare
    let found = SystemThread.trial(needed).count
    var granted = found == needed ? wanted : before + max(found - spare, 0) / pools
    while granted > before, !canReserve((granted - before) * buffer) { granted -= 1 }
    largest.store(granted, ordering: .relaxed)
    return granted
  }

  /// True if the limit on addresses leaves enough for a matrix product on one thread.
  public static var haveAddresses: Bool { canReserve(buffer) }

  private static func canReserve(_ bytes: Int) -> Bool {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    guard let base = mmap(nil, bytes, PROT_NONE, flags, -1, 0), base != MAP_FAILED else { return false }
    munmap(base, bytes)
    return true
  }
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
