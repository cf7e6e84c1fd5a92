/// The sizes of an array of up to four dimensions, outermost first, in four integers: a SIMD vector, aligned to 32
/// bytes, crashes the allocator of asynchronous functions (Swift 6.3: "freed pointer was not the last allocation").
public struct Shape: Hashable, Sendable, CustomStringConvertible {
  /// The number of dimensions: 0 for a scalar.
  public let rank: Int
  // Sizes beyond the rank are 1.
  private let a: Int
  private let b: Int
  private let c: Int
  private let d: Int

  public init() { self.init(rank: 0, (1, 1, 1, 1)) }
  public init(_ a: Int) { self.init(rank: 1, (a, 1, 1, 1)) }
  public init(_ a: Int, _ b: Int) { self.init(rank: 2, (a, b, 1, 1)) }
  public init(_ a: Int, _ b: Int, _ c: Int) { self.init(rank: 3, (a, b, c, 1)) }
  public init(_ a: Int, _ b: Int, _ c: Int, _ d: Int) { self.init(rank: 4, (a, b, c, d)) }

  /// Creates the shape with these sizes; nil if they are over four, if one is negative, or if their product overflows.
  public init?(_ list: [Int]) {
    guard list.count <= 4, list.allSatisfy({ $0 >= 0 }) else { return nil }
    var count = 1
    for size in list {
      let (product, overflow) = count.multipliedReportingOverflow(by: max(size, 1))
      guard !overflow else { return nil }
      count = product
    }
    let sizes = list + repeatElement(1, count: 4 - list.count)
    self.init(rank: list.count, (sizes[0], sizes[1], sizes[2], sizes[3]))
  }

  private init(rank: Int, _ sizes: (Int, Int, Int, Int)) {
    precondition(sizes.0 >= 0 && sizes.1 >= 0 && sizes.2 >= 0 && sizes.3 >= 0, "a size is never negative")
    self.rank = rank
    (a, b, c, d) = sizes
  }

  public subscript(index: Int) -> Int {
    precondition(index >= 0 && index < rank, "size \(index) of a shape with \(rank)")
    return size(index)
  }

  private func size(_ index: Int) -> Int {
    switch index {
    case 0: a
    case 1: b
    case 2: c
    default: d
    }
  }

  /// The number of elements of an array of this shape; 1 for a scalar.
  public var count: Int { a * b * c * d }
  /// The last size; 1 for a scalar.
  public var columns: Int { rank == 0 ? 1 : size(rank - 1) }
  /// The product of all sizes but the last.
  public var rows: Int { (0..<max(rank - 1, 0)).reduce(1) { $0 * size($1) } }
  public var array: [Int] { (0..<rank).map(size) }
  public var description: String { "[\(array.map(String.init).joined(separator: ", "))]" }
}
