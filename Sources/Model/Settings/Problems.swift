/// One mistake in a run file or in a `--set` argument.
public struct Problem: Sendable, Equatable {
  public var place: Place
  public var text: String

  public var line: String { "\(place.text): \(text)" }

  public init(place: Place, text: String) { (self.place, self.text) = (place, text) }
}

/// Gathers mistakes while a run file is read, so that all are told at once.
public final class Problems {
  public private(set) var all: [Problem] = []
  /// Where each value that was given stands, by path.
  public private(set) var places: [String: Place] = [:]

  private var alternatives: [String: String] = [:]

  public init() {}

  public func add(_ place: Place, _ text: String) { all.append(Problem(place: place, text: text)) }

  public func note(_ node: RunNode) { places[node.path] = node.place }

  /// Says that the word `none` would have been right at `node` too.
  public func allow(_ none: String, at node: RunNode) { alternatives[node.path] = none }

  public func wrongType(_ node: RunNode, expected: String, guess: String? = nil) {
    let question = guess.map { "; did you mean \"\($0)\"?" } ?? ""
    let alternative = alternatives[node.path].map { " or \($0)" } ?? ""
    let name = node.path.isEmpty ? "the run file" : node.path
    add(node.place, "\(name): expected \(expected)\(alternative), found \(node.kind)\(question)")
  }

  /// The place of `path`, or of the nearest section around it that was given.
  public func place(of path: String) -> Place? {
    var path = path[...]
    while true {
      if let place = places[String(path)] { return place }
      guard let dot = path.lastIndex(of: ".") else { return places[""] }
      path = path[..<dot]
    }
  }
}
