import Foundation

/// Makes a log with everything that a report shows: terms, divergences, evaluations, and a step with a NaN.
enum RichLog {
  /// Adds the figures of a run with a teacher to the log of a run without one.
  static func enrich(_ log: URL) throws {
    let text = try String(contentsOf: log, encoding: .utf8)
    var lines = try text.split(separator: "\n").compactMap {
      try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
    }
    for index in lines.indices where lines[index]["event"] as? String == "step" {
      guard let step = lines[index]["step"] as? Int else { continue }
      lines[index].merge(figures(after: Double(step))) { $1 }
    }
    for step in [30, 60] {
      let names = ["i2t R@1", "i2t R@5", "t2i R@1", "t2i R@5"]
      let shares = names.enumerated().map { ($1, Double(($0 + 1) * step) / 300) }
      lines.append([
        "event": "evaluation", "step": step, "evaluation": "retrieval x",
        "figures": Dictionary(uniqueKeysWithValues: shares),
      ])
    }
    let written = try lines.map { String(decoding: try JSONSerialization.data(withJSONObject: $0), as: UTF8.self) }
    try (written.joined(separator: "\n") + "\n").write(to: log, atomically: true, encoding: .utf8)
  }

  private static func figures(after step: Double) -> [String: Any] {
    func anchors(_ shift: Double) -> [String: Double] {
      [
        "divergence_mean": 3 + shift - step / 40, "divergence_deviation": 0.5, "weight_mean": 1,
        "weight_deviation": step / 100 + shift / 5,
      ]
    }
    return [
      "terms": ["clip": 100 / step, "fd": 1 / step, hostileTerm: step],
      "term_gradients": ["clip": 1 / step, "fd": step, hostileTerm: 0.5],
      "anchors": ["image": anchors(0), "text": anchors(1)],
      "gradient_norm": step == 40 ? "nan" : 1 + step.truncatingRemainder(dividingBy: 7),
    ]
  }

  /// A term whose name contains characters with a meaning in HTML.
  static let hostileTerm = "a_<b>\"&'"
}
