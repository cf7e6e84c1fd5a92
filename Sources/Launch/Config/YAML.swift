import Dist
import Foundation
import Settings
import Yams

/// Reading YAML. Yams gives line and column. It accepts more than a run file may hold (tags, merge keys, keys that are
/// not text), which is refused here: a file means what it seems to mean.
extension RunNode {
  /// The deepest nesting that is read; a run file needs four levels.
  private static let deepest = 32
  /// The values that aliases may add to those that are written out, which are fewer than the file's bytes.
  private static let mostRepeated = 10_000
  /// The limit on the steps in which a value that aliases repeat is compared with another.
  private static let mostSteps = 3e7

  /// Reads one YAML document, and gives what was renamed its new name. `place` turns a line and a column into a place.
  /// Throws a `RunFileError` for text that is not YAML, or holds what a run file may not.
  static func parse(
    _ yaml: String, path: String = "", place: (_ line: Int, _ column: Int) -> Place
  ) throws(RunFileError) -> RunNode {
    guard steps(in: yaml) <= mostSteps else {
      throw RunFileError(place(1, 1), "its aliases (*NAME) may repeat a value too often; write some of the values out")
    }
    let root: Node?
    do {
      root = try compose(yaml: yaml)
    } catch let error as YamlError {
      throw mistake(error, place)
    } catch { throw RunFileError(place(1, 1), error.explanation) }
    guard let root else { return RunNode(place: place(1, 1), path: path, value: .scalar("", quoted: false)) }
    let problems = Problems()
    let budget = Budget(left: yaml.utf8.count + mostRepeated)
    let node = RunNode(root, path: path, places: { place($0?.line ?? 1, $0?.column ?? 1) }, depth: 0, budget, problems)
    try problems.check()
    return node
  }

  /// Returns a bound on the steps in which Yams compares keys, which may be of any size and made of aliases: n bytes
  /// with a aliases, spread over b anchors, stand for at most n (1 + a / b)ᵇ.
  private static func steps(in yaml: String) -> Double {
    let (bytes, separators) = (Array("\n\(yaml)".utf8), Set(" \t\r\n[]{},:?".utf8))
    let marks = zip(bytes.dropFirst(), bytes).filter { separators.contains($1) }.map { $0.0 }
    let aliases = Double(marks.count { $0 == UInt8(ascii: "*") })
    let anchors = Double(marks.count { $0 == UInt8(ascii: "&") })
    return anchors == 0 ? 0 : Double(bytes.count) * pow(1 + aliases / anchors, anchors)
  }

  /// The number of values that may still be taken from a document.
  private final class Budget {
    var left: Int
    init(left: Int) { self.left = left }
  }

  private init(
    _ node: Node, path: String, places: (Mark?) -> Place, depth: Int, _ budget: Budget, _ problems: Problems
  ) {
    self.init(place: places(node.mark), path: path, value: .scalar("", quoted: false))
    budget.left -= 1
    guard budget.left >= 0 else {
      if budget.left == -1 { problems.add(self.place, "aliases (*NAME) repeat too many values; write some out") }
      return
    }
    guard depth < Self.deepest else {
      problems.add(self.place, "nested more than \(Self.deepest) levels deep")
      return
    }
    // A single dataset needs no brackets.
    if path == DataConfig.list, node.sequence == nil {
      let only = RunNode(node, path: Self.join(path, "0"), places: places, depth: depth + 1, budget, problems)
      value = only.isNothing ? only.value : .list([only])
      return
    }
    switch node {
    case .scalar(let scalar):
      let tag = scalar.tag.description
      let quoted = tag == Tag.Name.str.rawValue || (scalar.style != .plain && scalar.style != .any)
      if !quoted, tag != Tag.Name.implicit.rawValue {
        problems.add(self.place, "the tag \(tag) is not read here; remove it")
      }
      value = .scalar(RenamedKeys.value(scalar.string, at: path), quoted: quoted)
    case .sequence(let sequence):
      value = .list(
        sequence.enumerated().map { index, child in
          RunNode(child, path: Self.join(path, "\(index)"), places: places, depth: depth + 1, budget, problems)
        })
    case .mapping(let mapping):
      let names = Set(mapping.keys.compactMap { $0.scalar?.string })
      value = .section(
        mapping.compactMap { node, child in
          let place = places(node.mark)
          guard case .scalar(let name) = node else {
            problems.add(place, "a key must be text")
            return nil
          }
          if name.string == "<<" {
            problems.add(place, "merge keys (<<) are not read here; write the keys out")
            return nil
          }
          let renamed = RenamedKeys.key(at: Self.join(path, name.string))
          if let renamed, names.contains(renamed) {
            let path = Self.join(path, renamed)
            problems.add(place, "\(path) is given twice, once by its old name \(name.string); keep \(renamed)")
          }
          let key = renamed ?? name.string
          let value = RunNode(child, path: Self.join(path, key), places: places, depth: depth + 1, budget, problems)
          return Entry(key: key, place: place, value: value)
        })
    case .alias: problems.add(self.place, "alias without a value")
    }
  }

  private static func mistake(_ error: YamlError, _ place: (Int, Int) -> Place) -> RunFileError {
    switch error {
    case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
      .composer(let context, let problem, let mark, _):
      let text = [context?.text, problem].compactMap { $0 }.joined(separator: ", ")
      return RunFileError(place(mark.line, mark.column), "not YAML: \(text)")
    case .duplicatedKeysInMapping(let names, let context):
      let keys = names.sorted().map { "\"\($0)\"" }.joined(separator: ", ")
      let noun = names.count == 1 ? "key" : "keys"
      return RunFileError(
        place(context.mark.line, context.mark.column), "\(noun) \(keys) given twice in one section; keep one")
    case .reader(let problem, _, _, _): return RunFileError(place(1, 1), "not YAML: \(problem)")
    default: return RunFileError(place(1, 1), "not YAML: \(error)")
    }
  }
}

extension RunTree {
  /// The tree as a YAML document, with sections in block form and lists of scalars in brackets. It reads back as the
  /// same tree.
  var yaml: String {
    var lines: [String] = []
    write(into: &lines, indent: 0)
    return lines.joined(separator: "\n") + "\n"
  }

  private func write(into lines: inout [String], indent: Int) {
    let margin = String(repeating: "  ", count: indent)
    switch self {
    case .section(let entries):
      for entry in entries {
        let key = "\(margin)\(Self.text(entry.key, quoted: true)):"
        if let flow = entry.value.flow {
          lines.append("\(key) \(flow)")
        } else {
          lines.append(key)
          entry.value.write(into: &lines, indent: indent + 1)
        }
      }
    case .list(let values):
      for value in values {
        if let flow = value.flow {
          lines.append("\(margin)- \(flow)")
        } else {
          // The first line of the child moves up behind the dash.
          var child: [String] = []
          value.write(into: &child, indent: indent + 1)
          child[0] = "\(margin)- \(child[0].dropFirst(margin.count + 2))"
          lines += child
        }
      }
    case .scalar(let text, let quoted): lines.append(margin + Self.text(text, quoted: quoted))
    }
  }

  /// The value on one line if it is a scalar, empty, or a list of scalars; otherwise nil.
  private var flow: String? {
    switch self {
    case .scalar(let text, let quoted): return Self.text(text, quoted: quoted)
    case .section(let entries): return entries.isEmpty ? "{}" : nil
    case .list(let values):
      let scalars = values.compactMap { value -> String? in if case .scalar = value { value.flow } else { nil } }
      return scalars.count == values.count ? "[\(scalars.joined(separator: ", "))]" : nil
    }
  }

  /// Returns a scalar as it is written. Text is quoted unless it cannot be taken for anything else.
  private static func text(_ text: String, quoted: Bool) -> String {
    guard quoted else { return text.isEmpty ? "null" : text }
    let words = ["true", "false", "null", "yes", "no", "on", "off", "none", "auto", "all", "y", "n"]
    let isNumber = YAMLNumber.double(text) != nil || [".inf", ".nan"].contains(text.lowercased())
    if isBare(text), !words.contains(text.lowercased()), !isNumber { return text }
    return "\"" + text.unicodeScalars.map(escaped).joined() + "\""
  }

  /// Returns whether the text begins with a letter, `_`, `.` or `/`, and otherwise has only these, digits, `+` and `-`.
  private static func isBare(_ text: String) -> Bool {
    let letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_./".utf8
    guard let first = text.utf8.first, letters.contains(first) else { return false }
    return text.utf8.allSatisfy { letters.contains($0) || "0123456789+-".utf8.contains($0) }
  }

  private static func escaped(_ scalar: Unicode.Scalar) -> String {
    switch scalar {
    case "\"": return "\\\""
    case "\\": return "\\\\"
    case "\n": return "\\n"
    case "\t": return "\\t"
    default:
      // Control characters, line separators and the byte-order mark are not printable in YAML.
      let value = scalar.value
      let hidden = value < 0x20 || (0x7F...0xA0).contains(value) || [0x2028, 0x2029, 0xFEFF].contains(value)
      let digits = String(value, radix: 16, uppercase: true)
      return hidden ? "\\u" + String(repeating: "0", count: 4 - digits.count) + digits : String(scalar)
    }
  }
}
