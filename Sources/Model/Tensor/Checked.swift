/// A whole number from a file or a command line, in arithmetic that cannot trap: a result beyond 64 bits has no value,
/// and neither has anything that is computed from it.
///
///     guard (Checked(offset) + Checked(rows) * Checked(width)) <= size else { throw … }
public struct Checked: Sendable, Equatable, ExpressibleByIntegerLiteral {
  /// The number; nil if it exceeds 64 bits.
  public let value: Int?

  public init(_ value: Int?) { self.value = value }
  public init(integerLiteral value: Int) { self.value = value }

  public static func + (left: Checked, right: Checked) -> Checked {
    left.combined(with: right) { $0.addingReportingOverflow($1) }
  }

  public static func * (left: Checked, right: Checked) -> Checked {
    left.combined(with: right) { $0.multipliedReportingOverflow(by: $1) }
  }

  /// Returns false for a number that exceeds 64 bits.
  public static func <= (left: Checked, limit: Int) -> Bool { left.value.map { $0 <= limit } ?? false }

  private func combined(
    with other: Checked, _ operation: (Int, Int) -> (partialValue: Int, overflow: Bool)
  ) -> Checked {
    guard let value, let other = other.value else { return Checked(nil) }
    let (result, overflow) = operation(value, other)
    return Checked(overflow ? nil : result)
  }
}

extension Sequence<Int> {
  /// The sum of the numbers; nil if it, or one on the way, exceeds 64 bits.
  public var checkedSum: Int? { reduce(Checked(0)) { $0 + Checked($1) }.value }
}
