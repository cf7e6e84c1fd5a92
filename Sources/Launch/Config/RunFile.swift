import Dist
import Foundation
import Settings

extension RunConfig {
  /// The size of the largest run file that is read, in bytes.
  private static let largest = 1 << 20

  /// Reads a run file, applies the overrides (`optimizer.learning_rate=1e-3`), and checks the whole.
  ///
  /// - Throws: a `RunFileError` that names every mistake with its line and column, or a `RunFileUnreadable`.
  static func load(_ path: String, overrides: [String] = []) throws -> RunConfig {
    try decode(text(of: path), file: path, overrides: overrides)
  }

  /// Returns the text of a run file.
  ///
  /// - Throws: a `RunFileUnreadable` if the file cannot be read, is too large, or is not UTF-8.
  static func text(of path: String) throws -> String {
    let data: Data
    do {
      data = try Data(contentsOf: URL(filePath: path))
    } catch {
      throw RunFileUnreadable(path: path, reason: (error as NSError).localizedFailureReason ?? "\(error)")
    }
    guard data.count <= largest else {
      throw RunFileUnreadable(
        path: path, reason: "\(data.count) bytes are too many for a run file (at most \(largest))")
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      throw RunFileUnreadable(path: path, reason: "it is not UTF-8 text")
    }
    return text
  }

  /// Reads the text of a run file. `file` is its path, which messages name and to which the path of its base is
  /// relative.
  static func decode(_ text: String, file: String, overrides: [String] = []) throws(RunFileError) -> RunConfig {
    var root = try RunNode.parse(text) { .file(file, line: $0, column: $1) }
    try RenamedKeys.replace(in: &root)
    try BaseFile.apply(to: &root, of: file)
    for argument in overrides { try Override(argument).apply(to: &root) }
    let problems = Problems()
    let run = RunConfig.read(root, problems)
    try problems.check()
    guard let run else { preconditionFailure("a run file that cannot be read has problems") }
    try run.validate(problems)
    return run
  }
}

/// All mistakes of a run file, in the order of its lines; those of overrides come last.
struct RunFileError: ExitCoded, CustomStringConvertible, Equatable {
  var problems: [Problem]

  init(problems: [Problem]) { self.problems = problems.sorted { Self.order($0.place) < Self.order($1.place) } }

  /// A run file is part of the command line, so its mistakes are errors of usage.
  var status: ExitStatus { .usage }

  var description: String { problems.map(\.line).joined(separator: "\n") }

  private static func order(_ place: Place) -> (Int, Int) {
    switch place {
    case .file(_, let line, let column): (line, column)
    case .override: (.max, 0)
    }
  }
}

extension Problems {
  /// Throws a `RunFileError` with all problems, if there are any.
  func check() throws(RunFileError) {
    if !all.isEmpty { throw RunFileError(problems: all) }
  }
}

/// A run file that cannot be opened or is not text.
struct RunFileUnreadable: ExitCoded, CustomStringConvertible {
  var path: String
  var reason: String

  var status: ExitStatus { .inputOutput }
  var description: String { "cannot read the run file \(path): \(reason)" }
}
