internal import Tensor

// Consecutive ranges of flat arrays, and searches in them.

extension Range<Int> {
  func moved(by distance: Int) -> Range<Int> { lowerBound + distance..<upperBound + distance }

  /// Returns the last index for which `holds` is true, by binary search. It must be true up to that index and false
  /// after it; if it is true nowhere, the first index is returned.
  func last(holding holds: (Int) -> Bool) -> Int {
    var (low, high) = (lowerBound, upperBound)
    while high - low > 1 {
      let middle = (low + high) / 2
      if holds(middle) { low = middle } else { high = middle }
    }
    return low
  }
}

extension [Range<Int>] {
  /// Appends a range, which is joined with the last one if it begins where that ends.
  mutating func appendJoining(_ range: Range<Int>) {
    if let last, last.upperBound == range.lowerBound {
      self[count - 1] = last.lowerBound..<range.upperBound
    } else {
      append(range)
    }
  }

  var isRising: Bool { zip(self, dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound } }
  var total: Int { reduce(0) { $0 + $1.count } }
}

extension [Int] {
  /// Consecutive ranges of these lengths, the first from 0.
  var endToEnd: [Range<Int>] {
    var end = 0
    return map { length in
      defer { end += length }
      return end..<end + length
    }
  }

  /// Returns the product of `first` and all numbers, or nil if it exceeds 64 bits.
  func product(_ first: Int = 1) -> Int? { reduce(Checked(first)) { $0 * Checked($1) }.value }
}
