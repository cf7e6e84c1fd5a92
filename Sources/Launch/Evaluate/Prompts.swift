import Foundation

/// The classes of a zero-shot evaluation and the sentences that they are put into.
struct Prompts: Equatable {
  /// By label.
  let classes: [String]
  /// `{}` stands for the class's name. By default the name alone.
  var templates = ["{}"]

  init(classes: [String]) { self.classes = classes }

  /// All sentences, those of a class one after the other.
  var texts: [String] {
    classes.flatMap { name in templates.map { $0.replacing("{}", with: name) } }
  }

  /// A file of templates, one a line, each with `{}`.
  static func templates(_ path: String) throws -> [String] {
    let templates = try lines(path)
    for (line, template) in templates.enumerated() where !template.contains("{}") {
      throw EvaluationError.noPlaceholder(path: path, line: line + 1, found: template)
    }
    return templates
  }

  /// The numbers of the classes that a file names, one a line, each once and in label order.
  func subset(_ path: String) throws -> [Int] {
    let names = try Self.lines(path)
    let known = Set(classes)
    for name in names where !known.contains(name) {
      throw EvaluationError.unknownClass(path: path, name: name, known: classes.count)
    }
    return classes.indices.filter { Set(names).contains(classes[$0]) }
  }

  /// The lines of a text file, or of standard input (-); at least one, none empty but at the end.
  static func lines(_ path: String) throws -> [String] {
    let data: Data
    do {
      data = try path == "-" ? FileHandle.standardInput.readToEnd() ?? Data() : Data(contentsOf: URL(filePath: path))
    } catch {
      throw EvaluationError.unreadable(
        path: path, reason: (error as NSError).localizedFailureReason ?? error.localizedDescription)
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      throw EvaluationError.unreadable(path: path, reason: "it is not UTF-8 text")
    }
    var lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
      .map { $0.trimmingCharacters(in: .whitespaces) }
    while lines.last == "" { lines.removeLast() }
    if let empty = lines.firstIndex(of: "") { throw EvaluationError.emptyLine(path: path, line: empty + 1) }
    if lines.isEmpty { throw EvaluationError.emptyLine(path: path, line: 1) }
    return lines
  }
}
