import Dispatch
import Synchronization

/// The compute threads of this process: kernels split their rows over them.
///
/// One number rules kernels and BLAS alike; the program sets it once from the cores that the process is bound to.
public enum Threads {
  private static let planned = Atomic<Int>(1)
  private static let plannedForProducts = Atomic<Int>(1)

  /// How many threads a kernel may use, the caller's included; at least 1.
  public static var count: Int {
    get { planned.load(ordering: .relaxed) }
    set {
      planned.store(max(newValue, 1), ordering: .relaxed)
      ofProducts = max(newValue, 1)
    }
  }

  /// How many threads a matrix product uses: all, or one where several are computed at the same time.
  private(set) static var ofProducts: Int {
    get { plannedForProducts.load(ordering: .relaxed) }
    set {
      plannedForProducts.store(newValue, ordering: .relaxed)
      setMatrixProductThreads(newValue)
    }
  }

  /// Runs `body` over consecutive ranges that together are 0 ..< n, one a thread, each at least `grain` long where n
  /// allows; returns when all are done. `body` gets the number of its range.
  static func split(_ n: Int, grain: Int = 1, _ body: (_ part: Int, _ range: Range<Int>) -> Void) {
    let parts = Self.parts(n, grain: grain)
    if parts == 1 {
      if n > 0 { body(0, 0..<n) }
      return
    }
    withoutActuallyEscaping(body) { body in
      let job = Shared(body)
      DispatchQueue.concurrentPerform(iterations: parts) { part in
        job.body(part, (part * n / parts)..<((part + 1) * n / parts))
      }
    }
  }

  /// How many ranges `split` makes of n.
  static func parts(_ n: Int, grain: Int) -> Int {
    max(min(count, n / max(grain, 1)), 1)
  }

  /// `split` for bodies that call matrix products: those stay on the thread that calls them.
  static func splitProducts(_ n: Int, _ body: (_ part: Int, _ range: Range<Int>) -> Void) {
    let threads = count
    guard threads > 1, n > 1 else { return split(n, body) }
    ofProducts = 1
    Profile.besideOthers.store(true, ordering: .relaxed)
    split(n, body)
    Profile.besideOthers.store(false, ordering: .relaxed)
    ofProducts = threads
  }

  private struct Shared: @unchecked Sendable {
    let body: (Int, Range<Int>) -> Void
    init(_ body: @escaping (Int, Range<Int>) -> Void) { self.body = body }
  }
}
