/// The keys and values of the run file that were renamed. Files, command lines and checkpoints may use either name; the
/// resolved run has the new one.
enum RenamedKeys {
  /// The old path and the new key; `*` stands for any element of a list.
  private static let keys: [(old: String, key: String)] = [
    ("batch.micro", "micro_batch_size"), ("batch.recompute", "activation_checkpointing"), ("data.corpora", "datasets"),
    ("evaluate.evaluations.*.corpus", "dataset"), ("optimizer.rate", "learning_rate"), ("prune.rate", "learning_rate"),
    ("teacher.micro", "micro_batch_size"), ("teacher.spread_over", "shard_over"),
    ("teacher.ensemble.*.micro", "micro_batch_size"), ("teacher.ensemble.*.spread_over", "shard_over"),
  ]

  /// The path by its new name, and the old and the new word for the same value.
  private static let values: [(path: String, old: String, new: String)] = [
    ("teacher.placement", "spread", "sharded"), ("teacher.ensemble.*.placement", "spread", "sharded"),
  ]

  /// Returns the new name of the last key of `path`, whose other keys have their new names already; nil if it was not
  /// renamed.
  static func key(at path: String) -> String? { keys.first { matches(path, $0.old) }?.key }

  /// Returns a scalar at `path`, whose keys have their new names, by its new word.
  static func value(_ text: String, at path: String) -> String {
    values.first { $0.old == text && matches(path, $0.path) }?.new ?? text
  }

  private static func matches(_ path: String, _ pattern: String) -> Bool {
    let (path, pattern) = (path.split(separator: "."), pattern.split(separator: "."))
    return path.count == pattern.count && zip(path, pattern).allSatisfy { $1 == "*" ? Int($0) != nil : $0 == $1 }
  }

  /// Returns the keys of a path on the command line by their new names.
  static func path(_ keys: [String]) -> [String] {
    keys.reduce(into: []) { path, key in path.append(Self.key(at: (path + [key]).joined(separator: ".")) ?? key) }
  }
}
