import Dispatch
import Synchronization

/// Measures the time that each kind of kernel takes, for benchmarks; off by default.
public enum Profile {
  /// The sizes of a matrix product C [m, n] = op(A) [m, k] op(B) [k, n], and how it is computed.
  public struct Product: Hashable, Sendable {
    public let transposeA: Bool
    public let transposeB: Bool
    public let m: Int
    public let n: Int
    public let k: Int
    public let precision: ComputePrecision
    /// True if one thread computes it while the others compute other products.
    public let besideOthers: Bool

    /// Floating-point operations: two for each multiply-add.
    public var operations: Double { 2 * Double(m) * Double(n) * Double(k) }
  }

  /// The seconds that the thread which calls the kernels has spent in them since `start`.
  public struct Record: Sendable {
    /// Matrix products outside attention, and convolutions by primitives with their reorders.
    public var matmul = 0.0
    /// Attention, including its products.
    public var attention = 0.0
    /// Rounding operands to bfloat16, outside attention.
    public var rounding = 0.0
    /// Unfolding images for convolutions that are products.
    public var unfolding = 0.0
    /// Batch norms, including their ReLUs and residual sums.
    public var batchNorm = 0.0
    /// The number of times that each product was computed, including those of attention.
    public var products: [Product: Int] = [:]
  }

  /// Not an optional: a change inside one would first copy the table of products, at every product.
  private static let record = Mutex(Record())
  /// True while recording; read without the lock.
  private static let isOn = Atomic(false)
  private static let isWithin = Atomic(false)
  /// True while each thread computes products of its own.
  static let besideOthers = Atomic(false)

  /// Starts recording.
  public static func start() {
    record.withLock { $0 = Record() }
    isOn.store(true, ordering: .relaxed)
  }

  /// Stops recording and returns the record.
  public static func stop() -> Record {
    isOn.store(false, ordering: .relaxed)
    return record.withLock { record in
      defer { record = Record() }
      return record
    }
  }

  /// Runs `body` and adds its time to `part`, unless it runs within another measured part, which then counts it.
  @inline(__always) package static func measure(_ part: WritableKeyPath<Record, Double>, _ body: () -> Void) {
    guard isOn.load(ordering: .relaxed), !isWithin.exchange(true, ordering: .relaxed) else { return body() }
    let start = DispatchTime.now().uptimeNanoseconds
    body()
    let seconds = Double(DispatchTime.now().uptimeNanoseconds - start) * 1e-9
    isWithin.store(false, ordering: .relaxed)
    record.withLock { $0[keyPath: part] += seconds }
  }

  /// Counts a matrix product.
  @inline(__always) static func note(_ gemm: GEMM, _ precision: ComputePrecision = .fp32) {
    guard isOn.load(ordering: .relaxed) else { return }
    let product = Product(
      transposeA: gemm.transposeA, transposeB: gemm.transposeB, m: gemm.m, n: gemm.n, k: gemm.k, precision: precision,
      besideOthers: besideOthers.load(ordering: .relaxed))
    record.withLock { $0.products[product, default: 0] += 1 }
  }
}
