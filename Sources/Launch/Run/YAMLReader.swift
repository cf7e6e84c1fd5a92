import Settings
import Yams

/// Yams keeps line and column; what it accepts beyond this format (tags, merge keys, keys that are not text) is refused
/// here, so that nothing is read other than it looks.
extension RunNode {
  /// Deepest nesting that is read; a run file needs four levels.
  private static let deepest = 32

  /// Reads one YAML document; `place` turns line and column into a place.
  static func parse(
    _ yaml: String, path: String = "", place: (_ line: Int, _ column: Int) -> Place
  ) throws(RunFileError) -> RunNode {
    let root: Node?
    do {
      root = try compose(yaml: yaml)
    } catch let error as YamlError {
      throw RunFileError(problems: [problem(error, place)])
    } catch {
      throw RunFileError(problems: [.init(place: place(1, 1), text: "\(error)")])
    }
    guard let root else { return RunNode(place: place(1, 1), path: path, value: .scalar("", quoted: false)) }
    let problems = Problems()
    let node = RunNode(root, path: path, place: { place($0?.line ?? 1, $0?.column ?? 1) }, depth: 0, problems)
    try problems.check()
    return node
  }

  private init(_ node: Node, path: String, place: (Mark?) -> Place, depth: Int, _ problems: Problems) {
    self.init(place: place(node.mark), path: path, value: .scalar("", quoted: false))
    guard depth < Self.deepest else {
      problems.add(self.place, "nested more than \(Self.deepest) levels deep")
      return
    }
    switch node {
    case .scalar(let scalar):
      let tag = scalar.tag.description
      let quoted = tag == Tag.Name.str.rawValue || (scalar.style != .plain && scalar.style != .any)
      if !quoted, tag != Tag.Name.implicit.rawValue {
        problems.add(self.place, "the tag \(tag) is not read here; remove it")
      }
      value = .scalar(scalar.string, quoted: quoted)
    case .sequence(let sequence):
      value = .list(
        sequence.enumerated().map { index, child in
          RunNode(child, path: Self.join(path, "\(index)"), place: place, depth: depth + 1, problems)
        })
    case .mapping(let mapping):
      value = .section(
        mapping.compactMap { key, child in
          guard case .scalar(let name) = key else {
            problems.add(place(key.mark), "a key must be text")
            return nil
          }
          if name.string == "<<" {
            problems.add(place(key.mark), "merge keys (<<) are not read here; write the keys out")
            return nil
          }
          let value = RunNode(
            child, path: Self.join(path, name.string), place: place, depth: depth + 1, problems)
          return Entry(key: name.string, place: place(key.mark), value: value)
        })
    case .alias(let alias):
      problems.add(place(alias.mark), "alias without a value")
    }
  }

  /// Yams's errors in our form: place first, one line.
  private static func problem(_ error: YamlError, _ place: (Int, Int) -> Place) -> Problem {
    switch error {
    case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
      .composer(let context, let problem, let mark, _):
      let text = [context?.text, problem].compactMap { $0 }.joined(separator: ", ")
      return Problem(place: place(mark.line, mark.column), text: "not YAML: \(text)")
    case .duplicatedKeysInMapping(let names, let context):
      let keys = names.sorted().map { "\"\($0)\"" }.joined(separator: ", ")
      let noun = names.count == 1 ? "key" : "keys"
      return Problem(
        place: place(context.mark.line, context.mark.column),
        text: "\(noun) \(keys) given twice in one section; keep one")
    case .reader(let problem, _, _, _):
      return Problem(place: place(1, 1), text: "not YAML: \(problem)")
    default:
      return Problem(place: place(1, 1), text: "not YAML: \(error)")
    }
  }
}
