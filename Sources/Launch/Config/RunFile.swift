import Dist
import Foundation
import Settings

extension RunConfig {
  private static let largest = 1 << 20

  /// Reads a run file, applies the overrides (`optimizer.learning_rate=1e-3`), and checks the whole. Throws a
  /// `RunFileError` that names every mistake with its line and column, or a `RunFileUnreadable`.
  static func load(_ path: String, overrides: [String] = []) throws -> RunConfig {
    try decode(text(of: path), file: path, overrides: overrides)
  }

  /// Returns the text of a run file. Throws a `RunFileUnreadable` if the file cannot be read, is too large, or is not
  /// UTF-8.
  static func text(of path: String) throws(RunFileUnreadable) -> String {
    do throws(FileError) { return try TextFile.read(path, limit: largest) } catch { throw RunFileUnreadable(error) }
  }

  /// Reads the text of a run file. `file` is its path, which messages name and to which the path of its base is
  /// relative.
  static func decode(_ text: String, file: String, overrides: [String] = []) throws(RunFileError) -> RunConfig {
    var root = try RunNode.parse(text) { .file(file, line: $0, column: $1) }
    try root.requireSection()
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
  init(_ place: Place, _ text: String) { problems = [Problem(place: place, text: text)] }

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
  func check() throws(RunFileError) { if !all.isEmpty { throw RunFileError(problems: all) } }
}

struct RunFileUnreadable: ExitCoded, CustomStringConvertible {
  private let cause: FileError
  init(_ cause: FileError) { self.cause = cause }
  var status: ExitStatus { cause.status }
  var description: String { "cannot read the run file \(cause.path): \(cause.reason)" }
}

/// `base: FILE` at the top of a run file names another run file, which gives the value of every key that the first does
/// not give. Lists and short forms are replaced as a whole. A relative path starts at the folder of the file that names
/// it, and a base may have a base of its own. The resolved run has no base.
enum BaseFile {
  private static let key = "base"

  /// Lays the tree of the run file `file`, to which the bases of `files` led, over that of its base, if it names one.
  static func apply(to root: inout RunNode, of file: String, after files: [String] = []) throws(RunFileError) {
    guard case .section(let entries) = root.value, let entry = entries.first(where: { $0.key == key }) else { return }
    let problems = Problems()
    let name = String.read(entry.value, problems)
    try problems.check()
    guard let name else { return }
    root.value = .section(entries.filter { $0.key != key })

    let folder = URL(filePath: file).deletingLastPathComponent()
    let path = URL(filePath: name, relativeTo: folder).standardizedFileURL.path(percentEncoded: false)
    func problem(_ text: String) -> RunFileError { RunFileError(entry.value.place, "base: \(text)") }
    let before = files + [URL(filePath: file).standardizedFileURL.path(percentEncoded: false)]
    guard !before.contains(path) else { throw problem("\(name) is based on this file again; take one base out") }
    let text: String
    do throws(RunFileUnreadable) { text = try RunConfig.text(of: path) } catch { throw problem("\(error)") }
    var base = try RunNode.parse(text) { .file(name, line: $0, column: $1) }
    try base.requireSection()
    try apply(to: &base, of: path, after: before)
    root = root.laid(over: base)
  }
}

extension RunNode {
  /// Throws unless this node, the whole of a file, holds keys, or nothing.
  fileprivate func requireSection() throws(RunFileError) {
    if case .section = value { return }
    guard !isNothing else { return }
    throw RunFileError(place, "the run file: expected a section (keys and values), found \(kind)")
  }

  /// Returns this node, with the keys that it does not give taken from `base`.
  fileprivate func laid(over base: RunNode) -> RunNode {
    if isNothing { return base }
    guard case .section(let entries) = value, case .section(var merged) = base.expanded.value else { return self }
    for entry in entries {
      if let index = merged.firstIndex(where: { $0.key == entry.key }) {
        merged[index] = Entry(key: entry.key, place: entry.place, value: entry.value.laid(over: merged[index].value))
      } else {
        merged.append(entry)
      }
    }
    return RunNode(place: place, path: path, value: .section(merged))
  }

  /// The section that a short form stands for; any other node as it is.
  fileprivate var expanded: RunNode {
    guard case .scalar(let text, _) = value, !isNothing, let key = RunConfig.shorthandKey(at: path, text) else {
      return self
    }
    return RunNode(place: place, path: path, value: .section([.init(key: key, place: place, value: self)]))
  }
}

/// A value of the run file that the command line sets by `--set path=value`.
struct Override: Sendable {
  /// The keys from the top to the value, `["optimizer", "learning_rate"]`; a number names an element of a list.
  let path: [String]
  let value: RunNode
  let place: Place

  init(_ argument: String) throws(RunFileError) {
    let place = Place.override(argument)
    guard let equals = argument.firstIndex(of: "=") else {
      throw RunFileError(place, "expected path=value, such as optimizer.learning_rate=1e-3")
    }
    let keys = argument[..<equals].split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard !keys.contains("") else {
      throw RunFileError(place, "expected keys joined by dots before =, such as optimizer.learning_rate=1e-3")
    }
    path = RenamedKeys.path(keys)
    self.place = place
    let text = String(argument[argument.index(after: equals)...])
    value = try RunNode.parse(text, path: path.joined(separator: ".")) { _, _ in place }
  }

  /// Replaces the value in the tree, or adds it. An unknown path is reported later, when the tree is read.
  func apply(to root: inout RunNode) throws(RunFileError) { try apply(to: &root, path[...]) }

  private func apply(to node: inout RunNode, _ rest: ArraySlice<String>) throws(RunFileError) {
    guard let key = rest.first else {
      node = value
      return
    }
    switch node.value {
    case .list(var nodes):
      guard let index = Int(key), nodes.indices.contains(index) else {
        let range = nodes.isEmpty ? "which is empty" : "whose elements are 0 to \(nodes.count - 1)"
        throw RunFileError(place, "\(node.path) is a list, \(range); found \"\(key)\"")
      }
      try apply(to: &nodes[index], rest.dropFirst())
      node.value = .list(nodes)
    case .section(var entries):
      if let index = entries.firstIndex(where: { $0.key == key }) {
        try apply(to: &entries[index].value, rest.dropFirst())
      } else {
        var child = RunNode(place: place, path: node.path(of: key), value: .section([]))
        try apply(to: &child, rest.dropFirst())
        entries.append(.init(key: key, place: place, value: child))
      }
      node.value = .section(entries)
    case .scalar where node.isNothing:
      node.value = .section([])
      try apply(to: &node, rest)
    case .scalar:
      let kind = node.kind
      node = node.expanded
      guard case .section = node.value else {
        throw RunFileError(
          place, "\(node.path) is \(kind) in the run file, so it has no \"\(key)\"; set \(node.path) as a whole")
      }
      try apply(to: &node, rest)
    }
  }
}
