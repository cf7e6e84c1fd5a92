/// The place where a value was written: a run file or the command line.
public enum Place: Sendable, Equatable {
  case file(String, line: Int, column: Int)
  case override(String)

  /// The place in the words of messages, such as `run.yaml:3:5`.
  public var text: String {
    switch self {
    case .file(let name, let line, let column): "\(name):\(line):\(column)"
    case .override(let argument): "--set \(argument)"
    }
  }
}

/// The content of a YAML document, without places and styles.
public indirect enum RunTree: Sendable, Equatable {
  /// A text as it is written; `quoted` text remains text even if it looks like a number.
  case scalar(String, quoted: Bool)
  case list([RunTree])
  case section([Entry])

  /// A key of a section with its value.
  public struct Entry: Sendable, Equatable {
    public var key: String
    public var value: RunTree
  }
}

/// A node of a run file: a value with its place and its dotted path from the top.
public struct RunNode: Sendable {
  public var place: Place
  /// The path, such as `optimizer.learning_rate` or `data.datasets.0.path`; empty for the top.
  public var path: String
  public var value: Value

  /// The content of a node: a text, a list of nodes, or keys with their nodes.
  public indirect enum Value: Sendable {
    case scalar(String, quoted: Bool)
    case list([RunNode])
    case section([Entry])
  }

  /// A key of a section with its place and its value.
  public struct Entry: Sendable {
    public var key: String
    public var place: Place
    public var value: RunNode

    public init(key: String, place: Place, value: RunNode) { (self.key, self.place, self.value) = (key, place, value) }
  }

  public init(place: Place, path: String, value: Value) { (self.place, self.path, self.value) = (place, path, value) }

  /// Returns the path of a child of this node.
  public func path(of key: String) -> String { Self.join(path, key) }
  /// Returns the path of the key `key` in the section at `path`.
  public static func join(_ path: String, _ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  /// The node's content.
  public var tree: RunTree {
    switch value {
    case .scalar(let text, let quoted): .scalar(text, quoted: quoted)
    case .list(let nodes): .list(nodes.map(\.tree))
    case .section(let entries): .section(entries.map { .init(key: $0.key, value: $0.value.tree) })
    }
  }

  /// True for a value that is empty, `~` or `null`.
  public var isNothing: Bool {
    if case .scalar(let text, false) = value { return ["", "~", "null", "Null", "NULL"].contains(text) }
    return false
  }
}
