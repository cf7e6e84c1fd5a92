/// How many queries found their answer at each place. Whole numbers, so sums over ranks are exact.
public struct PlaceCounts: Equatable, Sendable {
  /// By place, 0 for the first.
  public private(set) var counts: [Int]

  public init(candidates: Int) { counts = [Int](repeating: 0, count: candidates) }

  /// Counts that were summed over ranks.
  public init(counts: [Int]) { self.counts = counts }

  /// Counts some places; a query without an answer (nil) does not count.
  public mutating func add(_ places: [Int?]) {
    for case .some(let place) in places { counts[place] += 1 }
  }

  public var queries: Int { counts.reduce(0, +) }

  /// Queries whose answer is among the first `k`.
  public func hits(at k: Int) -> Int { counts.prefix(k).reduce(0, +) }

  /// The share of queries whose answer is among the first `k`; 0 where there is no query.
  public func share(at k: Int) -> Double { queries == 0 ? 0 : Double(hits(at: k)) / Double(queries) }

  /// The median place, 1 for the first; of an even number of queries the mean of the two in the middle, rounded down.
  public var median: Int {
    let queries = queries
    if queries == 0 { return 0 }
    return (place(ofQuery: (queries - 1) / 2) + place(ofQuery: queries / 2)) / 2 + 1
  }

  /// The mean place, 1 for the first.
  public var mean: Double {
    let sum = counts.enumerated().reduce(0) { $0 + $1.offset * $1.element }
    return queries == 0 ? 0 : Double(sum) / Double(queries) + 1
  }

  /// The place of the query that is `index`-th when they are sorted by place.
  private func place(ofQuery index: Int) -> Int {
    var passed = 0
    return counts.firstIndex {
      passed += $0
      return passed > index
    } ?? 0
  }
}
