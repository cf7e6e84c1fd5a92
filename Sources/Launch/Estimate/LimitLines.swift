import Foundation

extension RunPlan {
  /// The limits as two tables, with an empty line above each.
  var limitLines: [String] {
    func percent(_ share: Double) -> String { "\(Figures.fixed(100 * share, 1)) %" }
    let parts = StepLimits.Part.allCases.map(\.rawValue)
    let widths = parts.map { max($0.count, 7) + 2 }
    func row(_ cells: [(text: String, width: Int)]) -> String { cells.map { Figures.row($0) }.joined() }
    var lines = [
      "",
      "where the time of a step goes, in percent of it (of messages: what a step waits for them), which part takes the "
        + "most, and which costs the most efficiency:",
      row([(" ranks", 6), ("batch", 12)] + zip(parts, widths).map { (text: $0, width: $1) }) + "  takes the most"
        + "      costs the most",
    ]
    lines += limits.map { found in
      let shares = zip(found.shares, widths).map { (text: percent($0.seconds / found.seconds), width: $1) }
      let binds = found.binds.rawValue.padding(toLength: 20, withPad: " ", startingAt: 0)
      return row([("\(found.ranks)", 6), ("\(found.batch)", 12)] + shares)
        + "  \(binds)\(found.costs?.rawValue ?? "nothing")"
    }
    var changes: [String] = []
    for change in limits.flatMap(\.lifts).map(\.change) where !changes.contains(change) { changes.append(change) }
    func line(_ name: String, _ cell: (StepLimits) -> String) -> String {
      name.padding(toLength: 40, withPad: " ", startingAt: 0) + row(limits.map { (cell($0), 12) })
    }
    lines += [
      "", line("efficiency of these ranks") { "\($0.ranks)" }, line("  with a batch of") { "\($0.batch)" },
      line("as planned") { percent($0.efficiency) },
    ]
    lines += changes.map { change in
      line(change) { found in found.lifts.first { $0.change == change }.map { percent($0.efficiency) } ?? "–" }
    }
    return lines
  }
}
