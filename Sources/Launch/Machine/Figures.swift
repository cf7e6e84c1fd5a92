import Foundation

/// Numbers as people read them, the same in every locale: formats that name none take no part in them.
enum Figures {
  /// `64 MiB`, `1.9 GiB`.
  static func bytes(_ count: Int) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var value = Double(count)
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    let whole = value == value.rounded() || value >= 100
    return "\(whole ? fixed(value, 0) : fixed(value, 1)) \(units[unit])"
  }

  /// With a fixed number of digits after the point.
  static func fixed(_ value: Double, _ digits: Int) -> String {
    String(format: "%.\(digits)f", value)
  }

  /// With a number of significant digits, without trailing zeros: `0.0005`, `1e-06`.
  static func significant(_ value: Double, _ digits: Int) -> String {
    String(format: "%.\(digits)g", value)
  }

  /// `42s`, `3m07s`, `2h05m`, `3d04h`.
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
}
