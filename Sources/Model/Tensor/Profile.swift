import Dispatch
import Synchronization

/// Where the time of the kernels goes, for benchmarks: off unless asked for.
public enum Profile {
  public struct Product: Hashable, Sendable {
    public let transposeA: Bool
    public let transposeB: Bool
    public let m: Int
    public let n: Int
    public let k: Int
    public let precision: Precision
    /// Computed by one thread, while the others compute others.
    public let besideOthers: Bool

    /// Multiply-adds twice.
    public var operations: Double { 2 * Double(m) * Double(n) * Double(k) }
  }

  /// What has been recorded since `start`: seconds of the thread that calls the kernels.
  public struct Record: Sendable {
    /// In `matmul`.
    public var matmul = 0.0
    /// In attention, its products included.
    public var attention = 0.0
    /// Rounding operands of products, outside attention.
    public var rounding = 0.0
    /// Unfolding pictures for convolutions.
    public var unfolding = 0.0
    /// In batch norms, with their activations and residuals.
    public var batchNorm = 0.0
    /// How often each shape of product was computed, attention's included.
    public var products: [Product: Int] = [:]
  }

  /// Not an optional: what is changed behind one is copied first, the table of products at every product.
  private static let record = Mutex(Record())
  /// Whether it is being written: asked without the lock.
  private static let isOn = Atomic(false)
  private static let isWithin = Atomic(false)
  /// Whether threads compute products of their own.
  static let besideOthers = Atomic(false)

  /// Begins to record.
  public static func start() {
    record.withLock { $0 = Record() }
    isOn.store(true, ordering: .relaxed)
  }

  /// Ends recording.
  public static func stop() -> Record {
    isOn.store(false, ordering: .relaxed)
    return record.withLock { record in
      defer { record = Record() }
      return record
    }
  }

  /// Adds the time of `body` to a part; within another part it counts to that one.
  @inline(__always)
  package static func measure(_ part: WritableKeyPath<Record, Double>, _ body: () -> Void) {
    guard isOn.load(ordering: .relaxed), !isWithin.exchange(true, ordering: .relaxed) else { return body() }
    let start = DispatchTime.now().uptimeNanoseconds
    body()
    let seconds = Double(DispatchTime.now().uptimeNanoseconds - start) * 1e-9
    isWithin.store(false, ordering: .relaxed)
    record.withLock { $0[keyPath: part] += seconds }
  }

  @inline(__always)
  static func note(
    _ transposeA: Bool, _ transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ precision: Precision = .fp32
  ) {
    guard isOn.load(ordering: .relaxed) else { return }
    let product = Product(
      transposeA: transposeA, transposeB: transposeB, m: m, n: n, k: k, precision: precision,
      besideOthers: besideOthers.load(ordering: .relaxed))
    record.withLock { $0.products[product, default: 0] += 1 }
  }
}
