/// The deviation of numbers from their expected values: the worst element, and the largest expected number.
///
/// If only one of a number and its expected value is finite, the deviation is infinite.
public struct Deviation: CustomStringConvertible {
  public let count: Int
  public private(set) var index = 0
  public private(set) var actual = 0.0
  public private(set) var expected = 0.0
  /// max |a − b|.
  public private(set) var absolute = 0.0
  /// max |b|.
  public private(set) var size = 0.0
  private let sizesDiffer: Bool
  private let errors: [Double]

  public init(_ actual: some Collection<some BinaryFloatingPoint>, from expected: some Collection<Double>) {
    count = expected.count
    sizesDiffer = actual.count != expected.count
    var errors: [Double] = []
    errors.reserveCapacity(expected.count)
    for (at, pair) in zip(actual, expected).enumerated() {
      let (a, b) = (Double(pair.0), pair.1)
      let same = a == b || (a.isNaN && b.isNaN)
      let error = same ? 0 : abs(a - b)
      errors.append(error.isNaN ? .infinity : error)
      size = max(size, abs(b))
      if at == 0 || errors[at] > absolute { (index, self.actual, self.expected, absolute) = (at, a, b, errors[at]) }
    }
    self.errors = errors
  }

  /// max |a − b| / max |b|, or infinity if the counts differ.
  public var relative: Double {
    if sizesDiffer { return .infinity }
    return absolute == 0 ? 0 : absolute / size
  }

  /// Returns the share of elements that deviate by at most `bound`, or 0 if the counts differ.
  public func share(within bound: Double) -> Double {
    if sizesDiffer { return 0 }
    return errors.isEmpty ? 1 : Double(errors.count { $0 <= bound }) / Double(errors.count)
  }

  public var description: String {
    if sizesDiffer { return "\(count) numbers are expected, and there are others" }
    return "element \(index) of \(count) is \(actual), expected \(expected): off by \(absolute), relative \(relative)"
  }
}
