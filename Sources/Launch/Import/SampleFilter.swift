import ArgumentParser
import Dist
import Foundation
import Synchronization

/// A condition on a number that a source has for each sample, as `--keep` gives it: `similarity>0.28`.
struct KeepCondition: Sendable, Equatable, CustomStringConvertible {
  /// An operator that begins with another one stands before it, so that the longer one is found first.
  enum Comparison: String, CaseIterable, Sendable {
    case atLeast = ">="
    case atMost = "<="
    case equal = "=="
    case above = ">"
    case below = "<"
  }

  let column: String
  let comparison: Comparison
  let bound: Double

  /// Reads a column's name, an operator and a number, with or without spaces between them.
  static func parse(_ text: String) throws -> KeepCondition {
    guard let at = text.firstIndex(where: { "<>=".contains($0) }),
      let comparison = Comparison.allCases.first(where: { text[at...].hasPrefix($0.rawValue) })
    else {
      let operators = Comparison.allCases.map(\.rawValue).joined(separator: ", ")
      throw ValidationError("expected a column, one of \(operators), and a number, such as 'similarity>0.28'")
    }
    let column = text[..<at].trimmingCharacters(in: .whitespaces)
    let number = text[at...].dropFirst(comparison.rawValue.count).trimmingCharacters(in: .whitespaces)
    guard !column.isEmpty else { throw ValidationError("no column stands before \(comparison.rawValue)") }
    guard let bound = ColumnValue.number(number) else {
      throw ValidationError("expected a number after \(comparison.rawValue), found '\(number)'")
    }
    return KeepCondition(column: column, comparison: comparison, bound: bound)
  }

  var description: String { "\(column)\(comparison.rawValue)\(Figures.significant(bound, 15))" }

  func holds(_ value: Double) -> Bool {
    switch comparison {
    case .atLeast: value >= bound
    case .atMost: value <= bound
    case .equal: value == bound
    case .above: value > bound
    case .below: value < bound
    }
  }
}

/// What a source has for a sample in a column that a condition names.
enum ColumnValue: Sendable, Equatable {
  case number(Double)
  /// An empty field, null, a text, or a number that is not finite.
  case other
  /// There is no such column; the text says what there is instead.
  case absent(String)

  /// Reads a field of a table.
  init(text: String) { self = Self.number(text).map { .number($0) } ?? .other }

  /// Reads a value of a JSON object; `keys` are those of the object.
  init(_ value: StrictJSON?, keys: String) {
    switch value {
    case nil: self = .absent(keys)
    case .integer(let number): self = .number(Double(number))
    case .number(let text): self.init(text: text)
    default: self = .other
    }
  }

  /// Returns the number that a text is in decimal notation, if it is finite.
  static func number(_ text: String) -> Double? {
    guard text.utf8.allSatisfy({ "0123456789.eE+-".utf8.contains($0) }), let number = Double(text), number.isFinite
    else { return nil }
    return number
  }
}

/// Keeps the samples of an import that meet all conditions, and counts the others.
final class SampleFilter: Sendable {
  private struct Counts {
    var samples = 0
    /// The numbers of samples that were left out, by the first condition that they did not meet: those whose number
    /// does not meet it, and those that have no number.
    var unmet, without: [Int]
    /// The number of samples that lack the column of each condition, and what the first of them has instead.
    var absent: [Int]
    var instead: [String?]
  }

  private let conditions: [KeepCondition]
  private let scores: ScoreTable?
  private let columns: [String]
  private let counts: Mutex<Counts>

  /// - Parameters:
  ///   - scores: a table of numbers by the keys of samples; its columns are preferred to those of the source.
  ///   - columns: the columns that the source reads into `ImportItem.values`, in their order.
  init(_ conditions: [KeepCondition], scores: ScoreTable?, columns: [String]) {
    (self.conditions, self.scores, self.columns) = (conditions, scores, columns)
    let none = [Int](repeating: 0, count: conditions.count)
    counts = Mutex(Counts(unmet: none, without: none, absent: none, instead: conditions.map { _ in nil }))
  }

  /// Returns the columns that conditions need and that `scores` do not have, each once.
  static func columns(of conditions: [KeepCondition], besides scores: ScoreTable?) -> [String] {
    var known = Set(scores?.columns ?? [])
    return conditions.map(\.column).filter { known.insert($0).inserted }
  }

  func keeps(_ item: ImportItem) -> Bool {
    let values = conditions.map { value(of: $0.column, for: item) }
    return counts.withLock { counts in
      counts.samples += 1
      for (index, value) in values.enumerated() {
        guard case .absent(let instead) = value else { continue }
        counts.absent[index] += 1
        if counts.instead[index] == nil { counts.instead[index] = instead }
      }
      for (index, value) in values.enumerated() {
        if case .number(let number) = value {
          if conditions[index].holds(number) { continue }
          counts.unmet[index] += 1
        } else {
          counts.without[index] += 1
        }
        return false
      }
      return true
    }
  }

  private func value(of column: String, for item: ImportItem) -> ColumnValue {
    if let value = scores?.value(of: column, forKey: item.key) { return value }
    guard let index = columns.firstIndex(of: column), index < item.values.count else { return .absent("no columns") }
    return item.values[index]
  }

  /// The number of samples that were left out.
  var dropped: Int { counts.withLock { ($0.unmet + $0.without).reduce(0, +) } }

  /// The numbers of samples that were kept and left out, for people.
  var summary: String {
    let counts = self.counts.withLock { $0 }
    let dropped = (counts.unmet + counts.without).reduce(0, +)
    var reasons: [String] = []
    for (index, condition) in conditions.enumerated() {
      let (unmet, without) = (counts.unmet[index], counts.without[index])
      if unmet > 0 { reasons.append("\(unmet) by \(condition)") }
      if without > 0 { reasons.append("\(without) without a number in \(condition.column)") }
    }
    return "kept: \(counts.samples - dropped) of \(Figures.count(counts.samples, "sample")) by --keep"
      + (reasons.isEmpty ? "" : "; left out \(reasons.joined(separator: ", "))")
  }

  /// The error for a column that no sample has, with what the first one has instead; nil if there is none. The `origin`
  /// is the source's name.
  func missingColumn(_ origin: String) -> UserError? {
    let counts = self.counts.withLock { $0 }
    guard counts.samples > 0, let index = conditions.indices.first(where: { counts.absent[$0] == counts.samples })
    else { return nil }
    return UserError(
      origin,
      """
      no sample has the column “\(conditions[index].column)” that --keep names; the first one has \
      \(counts.instead[index] ?? "none"): name a column that there is, or a table that has it with --scores
      """)
  }
}
