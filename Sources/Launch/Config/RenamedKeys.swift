import Settings

/// The keys and values of the run file that were renamed.
///
/// Files, command lines and checkpoints may use either name; the resolved run has the new one.
enum RenamedKeys {
  /// The old path and the new key; `*` stands for any element of a list.
  private static let keys: [(old: String, key: String)] = [
    ("batch.micro", "micro_batch_size"),
    ("batch.recompute", "activation_checkpointing"),
    ("data.corpora", "datasets"),
    ("evaluate.evaluations.*.corpus", "dataset"),
    ("optimizer.rate", "learning_rate"),
    ("prune.rate", "learning_rate"),
    ("teacher.micro", "micro_batch_size"),
    ("teacher.spread_over", "shard_over"),
    ("teacher.ensemble.*.micro", "micro_batch_size"),
    ("teacher.ensemble.*.spread_over", "shard_over"),
  ]

  /// The path by its new name, and the old and the new word for the same value.
  private static let values: [(path: String, old: String, new: String)] = [
    ("teacher.placement", "spread", "sharded"),
    ("teacher.ensemble.*.placement", "spread", "sharded"),
  ]

  /// Returns the new name of the last key of `path`, whose other keys have their new names already; nil if it was not
  /// renamed.
  private static func key(at path: String) -> String? {
    keys.first { matches(path, $0.old) }?.key
  }

  private static func matches(_ path: String, _ pattern: String) -> Bool {
    let (path, pattern) = (path.split(separator: "."), pattern.split(separator: "."))
    return path.count == pattern.count && zip(path, pattern).allSatisfy { $1 == "*" ? Int($0) != nil : $0 == $1 }
  }

  /// Returns the keys of a path on the command line by their new names.
  static func path(_ keys: [String]) -> [String] {
    var path: [String] = []
    for key in keys { path.append(Self.key(at: (path + [key]).joined(separator: ".")) ?? key) }
    return path
  }

  /// Replaces the old names in a node and in all nodes below it.
  ///
  /// - Throws: a `RunFileError` if a section has a key by both names.
  static func replace(in node: inout RunNode) throws(RunFileError) {
    switch node.value {
    case .scalar(let text, let quoted):
      guard let new = values.first(where: { $0.old == text && matches(node.path, $0.path) })?.new else { return }
      node.value = .scalar(new, quoted: quoted)
    case .list(var nodes):
      for index in nodes.indices { try replace(in: &nodes[index]) }
      node.value = .list(nodes)
    case .section(var entries):
      for index in entries.indices {
        let old = entries[index].key
        if let key = key(at: node.path(of: old)) {
          guard !entries.contains(where: { $0.key == key }) else {
            let text = "\(node.path(of: key)) is given twice, once by its old name \(old); keep \(key)"
            throw RunFileError(problems: [.init(place: entries[index].place, text: text)])
          }
          entries[index].key = key
          entries[index].value.move(to: node.path(of: key))
        }
        try replace(in: &entries[index].value)
      }
      node.value = .section(entries)
    }
  }
}

extension RunNode {
  /// Changes the path of the node, and with it the paths of all nodes below.
  fileprivate mutating func move(to path: String) {
    self.path = path
    switch value {
    case .scalar: break
    case .list(var nodes):
      for index in nodes.indices { nodes[index].move(to: self.path(of: "\(index)")) }
      value = .list(nodes)
    case .section(var entries):
      for index in entries.indices { entries[index].value.move(to: self.path(of: entries[index].key)) }
      value = .section(entries)
    }
  }
}
