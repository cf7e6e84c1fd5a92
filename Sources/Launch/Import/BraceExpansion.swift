import Settings

/// Names written as one, as webdataset's library and shells have it: `a-{00..11}.tar`, `{train,val}/{0..9}.tar`.
///
/// `{x..y}` counts from x to y, up or down, with as many digits as the longer one where either begins with 0;
/// `{x..y..s}` in steps of s; `{a..e}` runs through letters; `{p,q}` is a list. Braces may follow one another and be
/// nested. Others, such as `{x}`, stand for themselves. The first brace changes slowest.
enum BraceExpansion {
  /// More names than any set has tars.
  static let most = 1 << 20

  struct Problem: Error, Equatable {
    let reason: String
  }

  static func names(_ pattern: String) throws(Problem) -> [String] {
    var rest = Array(pattern)[...]
    let names = try sequence(&rest, depth: 0, in: pattern)
    guard rest.isEmpty else { throw Problem(reason: "closes a brace that was not opened") }
    return names
  }

  /// What stands before the next comma or closing brace of this depth; outside of braces commas are characters.
  private static func sequence(_ rest: inout ArraySlice<Character>, depth: Int, in pattern: String) throws(Problem)
    -> [String]
  {
    var names = [""]
    while let character = rest.first, character != "}", depth == 0 || character != "," {
      rest.removeFirst()
      guard character == "{" else {
        for index in names.indices { names[index].append(character) }
        continue
      }
      guard depth < 16 else { throw Problem(reason: "nests braces deeper than 16") }
      let choices = try braces(&rest, depth: depth + 1, in: pattern)
      guard names.count <= most / max(choices.count, 1) else {
        throw Problem(reason: "stands for more than \(most) names")
      }
      names = names.flatMap { name in choices.map { name + $0 } }
    }
    return names
  }

  /// What a brace stands for; its opening is already passed.
  private static func braces(_ rest: inout ArraySlice<Character>, depth: Int, in pattern: String) throws(Problem)
    -> [String]
  {
    if let end = rest.firstIndex(where: { "{},".contains($0) }), rest[end] == "}",
      let range = try range(String(rest[..<end]))
    {
      rest = rest[(end + 1)...]
      return range
    }
    var choices: [String] = []
    var items = 0
    while true {
      choices += try sequence(&rest, depth: depth, in: pattern)
      guard choices.count <= most else { throw Problem(reason: "stands for more than \(most) names") }
      items += 1
      guard let character = rest.popFirst() else { throw Problem(reason: "opens a brace that is not closed") }
      if character == "}" { break }
    }
    return items == 1 ? choices.map { "{\($0)}" } : choices
  }

  /// The names of `x..y` or `x..y..step`; nil: it is no range.
  private static func range(_ text: String) throws(Problem) -> [String]? {
    guard
      let match = text.wholeMatch(of: /(-?[0-9]{1,18}|[A-Za-z])\.\.(-?[0-9]{1,18}|[A-Za-z])(?:\.\.(-?[0-9]{1,9}))?/),
      let step = match.3.map({ Int($0) }) ?? 1
    else { return nil }
    let (from, to) = (String(match.1), String(match.2))
    let distance = step == 0 ? 1 : abs(step)
    if let first = Int(from), let last = Int(to) {
      let isPadded = [from, to].contains { $0.count > 1 && ($0.hasPrefix("0") || $0.hasPrefix("-0")) }
      let width = isPadded ? max(from.count, to.count) : 0
      guard abs(last - first) / distance < most else { throw Problem(reason: "stands for more than \(most) names") }
      return stride(from: first, through: last, by: first <= last ? distance : -distance).map { padded($0, width) }
    }
    guard let first = Unicode.Scalar(from), let last = Unicode.Scalar(to), Int(from) == nil, Int(to) == nil else {
      return nil
    }
    let (low, high) = (Int(first.value), Int(last.value))
    return stride(from: low, through: high, by: low <= high ? distance : -distance)
      .compactMap { Unicode.Scalar($0).map(String.init) }
  }

  private static func padded(_ number: Int, _ width: Int) -> String {
    let sign = number < 0 ? "-" : ""
    let digits = String(number.magnitude)
    return sign + String(repeating: "0", count: max(width - sign.count - digits.count, 0)) + digits
  }
}
