/// One mistake in a run file or in a `--set` argument.
public struct Problem: Sendable, Equatable {
  public var place: Place
  public var text: String

  /// The place and the text, as messages show them.
  public var line: String { "\(place.text): \(text)" }
  public init(place: Place, text: String) { (self.place, self.text) = (place, text) }
}

/// Gathers the mistakes in a run file while it is read, so that all are reported together.
public final class Problems {
  /// All problems, in the order in which they were found.
  public private(set) var all: [Problem] = []
  /// The place of each value that was given, by its path.
  public private(set) var places: [String: Place] = [:]
  /// The words that are accepted beside a value of its type, by its path.
  private var alternatives: [String: String] = [:]

  public init() {}
  /// Adds the problem at a place.
  public func add(_ place: Place, _ text: String) { all.append(Problem(place: place, text: text)) }
  /// Records the place of a value.
  public func note(_ node: RunNode) { places[node.path] = node.place }
  /// Records that the word `none` is accepted at `node` as well.
  public func allow(_ none: String, at node: RunNode) { alternatives[node.path] = none }

  /// Adds the problem of a value of the wrong type and returns nil; `guess` is the word that was probably intended.
  func wrongType<Value: FieldValue>(_ node: RunNode, guess: String? = nil) -> Value? {
    let question = guess.map { "; did you mean \"\($0)\"?" } ?? ""
    let alternative = alternatives[node.path].map { " or \($0)" } ?? ""
    let name = node.path.isEmpty ? "the run file" : node.path
    add(node.place, "\(name): expected \(Value.expectation)\(alternative), found \(node.kind)\(question)")
    return nil
  }

  /// Returns what `parse` makes of a node; if that is nil, adds the problem of a value of the wrong type.
  func read<Value: FieldValue>(_ node: RunNode, _ parse: (RunNode) -> Value?) -> Value? {
    note(node)
    return parse(node) ?? wrongType(node)
  }

  /// Returns the place of `path`, or of the innermost section around it that was given.
  public func place(of path: String) -> Place? {
    var path = path[...]
    while true {
      if let place = places[String(path)] { return place }
      guard let dot = path.lastIndex(of: ".") else { return places[""] }
      path = path[..<dot]
    }
  }
}
