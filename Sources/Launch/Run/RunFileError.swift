import Dist

/// One mistake in a run file or in a `--set` argument.
struct Problem: Sendable, Equatable {
  var place: Place
  var text: String

  var line: String { "\(place.text): \(text)" }
}

/// Everything that is wrong with a run file, in the order of its lines; overrides come last.
struct RunFileError: ExitCoded, CustomStringConvertible, Equatable {
  var problems: [Problem]

  init(problems: [Problem]) { self.problems = problems.sorted { Self.order($0.place) < Self.order($1.place) } }

  /// A run file is part of the command line: 64.
  var exitCode: Int32 { 64 }

  var description: String { problems.map(\.line).joined(separator: "\n") }

  private static func order(_ place: Place) -> (Int, Int) {
    switch place {
    case .file(_, let line, let column): (line, column)
    case .override: (.max, 0)
    }
  }
}

/// Gathers mistakes while a run file is read, so that all are told at once.
final class Problems {
  private(set) var all: [Problem] = []
  /// Where each value that was given stands, by path.
  private(set) var places: [String: Place] = [:]

  private var alternatives: [String: String] = [:]

  func add(_ place: Place, _ text: String) { all.append(Problem(place: place, text: text)) }

  func note(_ node: RunNode) { places[node.path] = node.place }

  /// Says that the word `none` would have been right at `node` too.
  func allow(_ none: String, at node: RunNode) { alternatives[node.path] = none }

  func wrongType(_ node: RunNode, expected: String, guess: String? = nil) {
    let question = guess.map { "; did you mean \"\($0)\"?" } ?? ""
    let alternative = alternatives[node.path].map { " or \($0)" } ?? ""
    let name = node.path.isEmpty ? "the run file" : node.path
    add(node.place, "\(name): expected \(expected)\(alternative), found \(node.kind)\(question)")
  }

  /// The place of `path`, or of the nearest section around it that was given.
  func place(of path: String) -> Place? {
    var path = path[...]
    while true {
      if let place = places[String(path)] { return place }
      guard let dot = path.lastIndex(of: ".") else { return places[""] }
      path = path[..<dot]
    }
  }

  func check() throws(RunFileError) {
    if !all.isEmpty { throw RunFileError(problems: all) }
  }
}
