/// The sizes of an array, outermost first; up to four, held without a heap allocation.
public struct Shape: Hashable, Sendable, CustomStringConvertible {
  /// How many sizes there are: 0 for a scalar.
  public let rank: Int
  private let sizes: SIMD4<Int>

  public init() { self.init(rank: 0, sizes: [1, 1, 1, 1]) }
  public init(_ a: Int) { self.init(rank: 1, sizes: [a, 1, 1, 1]) }
  public init(_ a: Int, _ b: Int) { self.init(rank: 2, sizes: [a, b, 1, 1]) }
  public init(_ a: Int, _ b: Int, _ c: Int) { self.init(rank: 3, sizes: [a, b, c, 1]) }
  public init(_ a: Int, _ b: Int, _ c: Int, _ d: Int) { self.init(rank: 4, sizes: [a, b, c, d]) }

  /// The shape with these sizes, or nil for more than four of them or a negative one.
  public init?(_ list: [Int]) {
    guard list.count <= 4, list.allSatisfy({ $0 >= 0 }) else { return nil }
    var sizes = SIMD4<Int>(repeating: 1)
    for (index, size) in list.enumerated() { sizes[index] = size }
    self.init(rank: list.count, sizes: sizes)
  }

  private init(rank: Int, sizes: SIMD4<Int>) {
    precondition(sizes.min() >= 0, "a size is never negative")
    self.rank = rank
    self.sizes = sizes
  }

  public subscript(index: Int) -> Int {
    precondition(index < rank, "size \(index) of a shape with \(rank)")
    return sizes[index]
  }

  /// How many elements an array of this shape has; 1 for a scalar.
  public var count: Int { sizes[0] * sizes[1] * sizes[2] * sizes[3] }

  /// The last size; 1 for a scalar.
  public var columns: Int { rank == 0 ? 1 : sizes[rank - 1] }

  /// The product of all sizes but the last.
  public var rows: Int {
    var product = 1
    for index in 0..<max(rank - 1, 0) { product *= sizes[index] }
    return product
  }

  public var array: [Int] { (0..<rank).map { sizes[$0] } }

  public var description: String { "[\(array.map(String.init).joined(separator: ", "))]" }
}
