import Dispatch

/// Where the time of the kernels goes, for benchmarks: off unless asked for, and then for one thread.
public enum Profile {
  public struct Product: Hashable, Sendable {
    public let transposeA: Bool
    public let transposeB: Bool
    public let m: Int
    public let n: Int
    public let k: Int
    public let precision: Precision

    /// Multiply-adds twice.
    public var operations: Double { 2 * Double(m) * Double(n) * Double(k) }
  }

  /// What has been recorded since `start`.
  public struct Record {
    /// Seconds in `matmul`.
    public var matmul = 0.0
    /// Seconds in attention, its products included.
    public var attention = 0.0
    /// How often each shape of product was computed, attention's included.
    public var products: [Product: Int] = [:]
  }

  nonisolated(unsafe) private static var record: Record?

  /// Begins to record; `Threads.count` must be 1.
  public static func start() {
    precondition(Threads.count == 1, "a profile is of one compute thread")
    record = Record()
  }

  /// Ends recording.
  public static func stop() -> Record {
    defer { record = nil }
    return record ?? Record()
  }

  @inline(__always)
  static func measure(_ part: WritableKeyPath<Record, Double>, _ body: () -> Void) {
    guard record != nil else { return body() }
    let start = DispatchTime.now().uptimeNanoseconds
    body()
    record?[keyPath: part] += Double(DispatchTime.now().uptimeNanoseconds - start) * 1e-9
  }

  @inline(__always)
  static func note(
    _ transposeA: Bool, _ transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ precision: Precision = .fp32
  ) {
    guard record != nil else { return }
    let product = Product(transposeA: transposeA, transposeB: transposeB, m: m, n: n, k: k, precision: precision)
    record?.products[product, default: 0] += 1
  }
}
