/// A section of the run file.
///
/// `fields` declares each key once, beside its property. Reading, writing and the list of known keys follow from it.
/// The properties' initial values are the defaults.
public protocol Section: FieldValue {
  init()
  /// Declares the keys in their order in the run file.
  mutating func fields(_ map: FieldMap)
  /// Returns the key whose value is `text` where it stands in place of the section; nil without such a short form.
  static func shorthandKey(_ text: String) -> String?
}

extension Section {
  public static func shorthandKey(_ text: String) -> String? { nil }
  public static var expectation: String { "a section (keys and values)" }
  public static func read(_ node: RunNode, _ problems: Problems) -> Self? { read(node, over: Self(), problems) }

  /// Reads a node, which may be a short form. Keys that it does not give keep their values in `defaults`.
  public static func read(_ node: RunNode, over defaults: Self, _ problems: Problems) -> Self? {
    problems.note(node)
    var section = defaults
    switch node.value {
    case .section(let entries):
      let map = FieldMap(reading: node, entries, problems)
      section.fields(map)
      map.finish()
      return section
    case .scalar(let text, _):
      // If all keys are commented out, the section has its defaults.
      guard let key = node.isNothing ? "" : shorthandKey(text) else { break }
      let entries = node.isNothing ? [] : [RunNode.Entry(key: key, place: node.place, value: node)]
      section.fields(FieldMap(reading: node, entries, problems))
      return section
    case .list: break
    }
    return problems.wrongType(node)
  }

  public mutating func advance(to step: Int) { fields(FieldMap(advancingTo: step)) }

  /// Returns the settings that hold in a step, counted from 0.
  public func at(_ step: Int) -> Self {
    var copy = self
    copy.advance(to: step)
    return copy
  }

  public var tree: RunTree {
    let map = FieldMap()
    var copy = self
    copy.fields(map)
    return .section(map.written)
  }
}

/// One pass over the keys of a section: it reads their values from a node, writes them to a tree, or advances them to a
/// step.
public final class FieldMap {
  private var node: RunNode?
  private var entries: [RunNode.Entry] = []
  private var problems = Problems()
  private var known: [String] = []
  private var step: Int?
  /// The keys and values that a writing pass has met.
  private(set) var written: [RunTree.Entry] = []

  /// True in a pass that reads values from a node.
  public var isReading: Bool { node != nil }

  /// Creates a pass that advances values to a step; without one, a writing pass.
  init(advancingTo step: Int? = nil) { self.step = step }

  /// Creates a reading pass.
  init(reading node: RunNode, _ entries: [RunNode.Entry], _ problems: Problems) {
    (self.node, self.entries, self.problems) = (node, entries, problems)
  }

  /// Declares a key whose default is the present value.
  public func field<Value: FieldValue>(_ key: String, _ value: inout Value) {
    pass(key, &value) { Value.read($0, problems) }
  }

  /// Declares a section whose defaults are those of the present value, not those of its type.
  public func section<Value: Section>(_ key: String, _ value: inout Value) {
    let defaults = value
    pass(key, &value) { Value.read($0, over: defaults, problems) }
  }

  private func pass<Value: FieldValue>(_ key: String, _ value: inout Value, read: (RunNode) -> Value?) {
    if let step { return value.advance(to: step) }
    if let given = take(key) {
      value = read(given) ?? value
    } else if node == nil {
      write(key, value.tree)
    }
  }

  /// Declares a key that must be given unless another key is; `what` describes it where it is missing.
  public func required<Value: FieldValue>(
    _ key: String, _ value: inout Value, _ what: String, unless other: String? = nil
  ) {
    if other == nil || !entries.contains(where: { $0.key == other }) { demand(key, what) }
    field(key, &value)
  }

  /// Declares a key that must be given and has no default.
  public func required<Value: FieldValue>(_ key: String, _ value: inout Value?, _ what: String) {
    demand(key, what)
    optional(key, &value)
  }

  private func demand(_ key: String, _ what: String) {
    guard let node, !entries.contains(where: { $0.key == key }) else { return }
    problems.add(node.place, "\(node.path(of: key)) is missing: \(what)")
  }

  /// Declares a key whose value may be nil. The word `none` stands for nil in the file; without a word the key is left
  /// out.
  public func optional<Value: FieldValue>(_ key: String, _ value: inout Value?, none: String? = nil) {
    if let step {
      value?.advance(to: step)
    } else if let given = take(key) {
      if let none, given.plain == none {
        problems.note(given)
        value = nil
        return
      }
      if let none { problems.allow(none, at: given) }
      value = Value.read(given, problems) ?? value
    } else if node == nil, let tree = value?.tree ?? none.map({ RunTree.scalar($0, quoted: false) }) {
      write(key, tree)
    }
  }

  /// Reports every key that was not declared.
  func finish() {
    guard let node else { return }
    let section = node.path.isEmpty ? "the run file" : node.path
    for entry in entries where !known.contains(entry.key) {
      let guess = entry.key.closest(among: known).map { "; did you mean \"\($0)\"?" } ?? "."
      problems.add(
        entry.place,
        "unknown key \"\(entry.key)\" in \(section)\(guess) Known keys: \(known.joined(separator: ", "))")
    }
  }

  /// Writes a key; one that two declarations share is written once.
  private func write(_ key: String, _ tree: RunTree) {
    if !written.contains(where: { $0.key == key }) { written.append(.init(key: key, value: tree)) }
  }

  private func take(_ key: String) -> RunNode? {
    if !known.contains(key) { known.append(key) }
    return entries.first { $0.key == key }?.value
  }
}

extension String {
  /// Returns the candidate with the fewest edits to this text; nil if there are too many for a slip.
  func closest(among candidates: [String]) -> String? {
    let ranked = candidates.map { (name: $0, distance: edits(to: $0)) }
    guard let best = ranked.min(by: { $0.distance < $1.distance }) else { return nil }
    return best.distance <= max(1, count / 3) ? best.name : nil
  }

  /// Returns the `count` candidates with the fewest edits to this text, the nearest first.
  public func nearest(_ count: Int, among candidates: [String]) -> [String] {
    let ranked = candidates.map { (name: $0, distance: edits(to: $0)) }
    return ranked.sorted { ($0.distance, $0.name) < ($1.distance, $1.name) }.prefix(count).map(\.name)
  }

  /// Returns the number of edits between two words: insertions, deletions, replacements, and swaps of neighbours.
  private func edits(to other: String) -> Int {
    let (from, to) = (Array(self), Array(other))
    var rows = [Array(0...to.count)]
    for i in 0..<from.count {
      var row = [i + 1]
      for j in 0..<to.count {
        var least = Swift.min(rows[i][j] + (from[i] == to[j] ? 0 : 1), rows[i][j + 1] + 1, row[j] + 1)
        if i > 0, j > 0, from[i] == to[j - 1], from[i - 1] == to[j] { least = Swift.min(least, rows[i - 1][j - 1] + 1) }
        row.append(least)
      }
      rows.append(row)
    }
    return rows[from.count][to.count]
  }
}
