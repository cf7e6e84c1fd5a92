/// The sizes of an array, outermost first; up to four, held without a heap allocation.
///
/// Four integers and not a SIMD vector: that is aligned to 32 bytes, and a value so aligned brings the allocator of
/// asynchronous functions down (Swift 6.3: "freed pointer was not the last allocation").
public struct Shape: Hashable, Sendable, CustomStringConvertible {
  /// How many sizes there are: 0 for a scalar.
  public let rank: Int
  // What is beyond the rank is 1.
  private let a: Int
  private let b: Int
  private let c: Int
  private let d: Int

  public init() { self.init(rank: 0, 1, 1, 1, 1) }
  public init(_ a: Int) { self.init(rank: 1, a, 1, 1, 1) }
  public init(_ a: Int, _ b: Int) { self.init(rank: 2, a, b, 1, 1) }
  public init(_ a: Int, _ b: Int, _ c: Int) { self.init(rank: 3, a, b, c, 1) }
  public init(_ a: Int, _ b: Int, _ c: Int, _ d: Int) { self.init(rank: 4, a, b, c, d) }

  /// The shape with these sizes, or nil for more than four of them, a negative one, or more elements than can be
  /// counted.
  public init?(_ list: [Int]) {
    guard list.count <= 4, list.allSatisfy({ $0 >= 0 }) else { return nil }
    var count = 1
    for size in list {
      let (product, overflow) = count.multipliedReportingOverflow(by: max(size, 1))
      guard !overflow else { return nil }
      count = product
    }
    let sizes = list + repeatElement(1, count: 4 - list.count)
    self.init(rank: list.count, sizes[0], sizes[1], sizes[2], sizes[3])
  }

  private init(rank: Int, _ a: Int, _ b: Int, _ c: Int, _ d: Int) {
    precondition(a >= 0 && b >= 0 && c >= 0 && d >= 0, "a size is never negative")
    self.rank = rank
    self.a = a
    self.b = b
    self.c = c
    self.d = d
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

  /// How many elements an array of this shape has; 1 for a scalar.
  public var count: Int { a * b * c * d }

  /// The last size; 1 for a scalar.
  public var columns: Int { rank == 0 ? 1 : size(rank - 1) }

  /// The product of all sizes but the last.
  public var rows: Int {
    var product = 1
    for index in 0..<max(rank - 1, 0) { product *= size(index) }
    return product
  }

  public var array: [Int] { (0..<rank).map(size) }

  public var description: String { "[\(array.map(String.init).joined(separator: ", "))]" }
}
