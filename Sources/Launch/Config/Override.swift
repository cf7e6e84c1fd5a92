import Settings

/// A value of the run file that the command line sets by `--set path=value`.
struct Override: Sendable {
  /// The keys from the top to the value, `["optimizer", "learning_rate"]`; a number names an element of a list.
  let path: [String]
  let value: RunNode
  let place: Place

  init(_ argument: String) throws(RunFileError) {
    let place = Place.override(argument)
    guard let equals = argument.firstIndex(of: "=") else {
      throw RunFileError(
        problems: [.init(place: place, text: "expected path=value, such as optimizer.learning_rate=1e-3")])
    }
    let path = argument[..<equals].split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard !path.contains("") else {
      throw RunFileError(
        problems: [
          .init(place: place, text: "expected keys joined by dots before =, such as optimizer.learning_rate=1e-3")
        ])
    }
    self.path = RenamedKeys.path(path)
    self.place = place
    var value = try RunNode.parse(
      String(argument[argument.index(after: equals)...]), path: self.path.joined(separator: "."),
      place: { _, _ in place })
    try RenamedKeys.replace(in: &value)
    self.value = value
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
        throw problem("\(node.path) is a list, \(range); found \"\(key)\"")
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
        throw problem("\(node.path) is \(kind) in the run file, so it has no \"\(key)\"; set \(node.path) as a whole")
      }
      try apply(to: &node, rest)
    }
  }

  private func problem(_ text: String) -> RunFileError { RunFileError(problems: [.init(place: place, text: text)]) }
}
