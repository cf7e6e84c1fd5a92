import Dist
import Settings

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

extension Problems {
  /// Throws everything that was found wrong.
  func check() throws(RunFileError) {
    if !all.isEmpty { throw RunFileError(problems: all) }
  }
}
