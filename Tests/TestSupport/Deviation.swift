/// How far numbers are from those expected: the worst element, and the largest number expected.
///
/// A number that is not finite where a finite one is expected, or the other way round, is infinitely far.
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

  /// max |a − b| / max |b|; infinite where there are too many numbers or too few.
  public var relative: Double {
    if sizesDiffer { return .infinity }
    return absolute == 0 ? 0 : absolute / size
  }

  /// The share of elements that are at most `bound` off.
  public func share(within bound: Double) -> Double {
    if sizesDiffer { return 0 }
    return errors.isEmpty ? 1 : Double(errors.count { $0 <= bound }) / Double(errors.count)
  }

  public var description: String {
    if sizesDiffer { return "\(count) numbers are expected, and there are others" }
    return "element \(index) of \(count) is \(actual), expected \(expected): off by \(absolute), relative \(relative)"
  }
}
