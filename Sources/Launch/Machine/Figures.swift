import Foundation

/// Writes numbers for people, the same in every locale: `String(format:)` without a locale uses none.
enum Figures {
  /// Returns bytes in the largest fitting unit: `64 MiB`, `1.9 GiB`.
  static func bytes(_ count: Int) -> String {
    var units = ["TiB", "GiB", "MiB", "KiB", "B"]
    var value = Double(count)
    while value >= 1024, units.count > 1 {
      value /= 1024
      units.removeLast()
    }
    return "\(fixed(value, value == value.rounded() || value >= 100 ? 0 : 1)) \(units[units.count - 1])"
  }

  /// Returns a number with its noun: `1 rank`, `2 ranks`. The plural ends in s if none is given.
  static func count(_ number: Int, _ noun: String, _ plural: String? = nil) -> String {
    "\(number) \(number == 1 ? noun : plural ?? noun + "s")"
  }

  /// Returns a number with a fixed number of digits after the point.
  static func fixed(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }

  /// Returns a number with at most `digits` significant digits, without trailing zeros: `0.0005`, `1e-06`.
  static func significant(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)g", value) }

  /// Returns seconds in their two largest units: `42s`, `3m07s`, `2h05m`, `3d04h`.
  static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0, seconds < 1e9 else { return "?" }
    let whole = Int(seconds.rounded())
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    switch whole {
    case ..<60: return "\(whole)s"
    case ..<3600: return "\(whole / 60)m\(two(whole % 60))s"
    case ..<86_400: return "\(whole / 3600)h\(two(whole % 3600 / 60))m"
    default: return "\(whole / 86_400)d\(two(whole % 86_400 / 3600))h"
    }
  }

  /// Returns rows as a table, whose columns are as wide as their widest entry; the last column is flush right.
  static func table(_ rows: [[String]]) -> String {
    let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    let lines = rows.map { row in
      let cells = zip(row, widths).enumerated().map { index, cell in
        let space = String(repeating: " ", count: cell.1 - cell.0.count)
        return index == row.count - 1 ? space + cell.0 : cell.0 + space
      }
      return "  " + cells.joined(separator: "  ")
    }
    return lines.joined(separator: "\n")
  }

  /// Returns cells as a line of a table, each aligned to the right in its width.
  static func row(_ cells: (text: String, width: Int)...) -> String {
    cells.map { String(repeating: " ", count: max($0.width - $0.text.count, 0)) + $0.text }.joined()
  }
}

extension [Double] {
  /// The middle number of those in order; of an even count, the larger of both in the middle. The array is not empty.
  var median: Double { sorted()[count / 2] }
}

extension Encodable {
  /// Returns the value as JSON with sorted keys and unescaped slashes.
  func jsonText(
    _ formatting: JSONEncoder.OutputFormatting = [], keys: JSONEncoder.KeyEncodingStrategy = .useDefaultKeys
  ) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = formatting.union([.sortedKeys, .withoutEscapingSlashes])
    encoder.keyEncodingStrategy = keys
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}
