internal import Foundation

/// The checkpoints of one run: folders named by their step, and the link `latest`.
struct CheckpointFolders {
  static let latest = "latest"

  let run: String

  func name(_ step: Int) -> String { "step-\(CheckpointManifest.digits(step, 8))" }
  func path(_ name: String) -> String { "\(run)/\(name)" }

  /// Being written; never read.
  func partial(_ step: Int) -> String { path("\(name(step)).partial") }

  /// A checkpoint that another of the same step is about to replace; as good as before until that has happened.
  func replaced(_ step: Int) -> String { path("\(name(step)).replaced") }

  /// Whatever lies in the run's folder under a checkpoint's name, with the step.
  private func all() -> [(step: Int, name: String, suffix: String)] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: run)) ?? []
    return names.compactMap { name in
      guard let match = name.wholeMatch(of: /step-([0-9]{8,})(|\.partial|\.replaced)/), let step = Int(match.1) else {
        return nil
      }
      return (step, name, String(match.2))
    }
  }

  /// The names of checkpoints to resume from, best first: the one that is marked, then by falling step.
  func candidates() -> [String] {
    let complete = all().filter { $0.suffix != ".partial" }
    let falling = complete.sorted { ($1.step, $0.suffix) < ($0.step, $1.suffix) }.map(\.name)
    let marked = try? FileManager.default.destinationOfSymbolicLink(atPath: path(Self.latest))
    return falling.filter { $0 == marked } + falling.filter { $0 != marked }
  }

  /// Puts the finished folder of `step` into its place and marks it as the latest.
  ///
  /// At every moment there is a complete checkpoint under a name that is looked for.
  func publish(_ step: Int, renamed: () -> Void) throws(FileError) {
    let target = path(name(step))
    if FileManager.default.fileExists(atPath: target) {
      try Publish.removeAll(replaced(step))
      try Publish.rename(target, to: replaced(step))
    }
    try Publish.rename(partial(step), to: target)
    renamed()
    try Publish.link(path(Self.latest), to: name(step))
  }

  /// Removes what lies behind `step`: checkpoints that need not remain, what they replaced, and what was never
  /// finished. Later steps are another branch of the run and are left alone. Returns what could not be removed.
  func prune(behind step: Int, _ retention: CheckpointRetention) -> [String] {
    let past = all().filter { $0.step <= step }
    let kept = retention.kept(of: past.filter { $0.suffix.isEmpty }.map(\.step))
    var left: [String] = []
    for item in past where !item.suffix.isEmpty || !kept.contains(item.step) {
      do throws(FileError) {
        // Without its manifest a half-removed folder is no checkpoint.
        try Publish.removeAll("\(path(item.name))/\(CheckpointManifest.file)")
        try Publish.removeAll(path(item.name))
      } catch { left.append("\(error)") }
    }
    return left
  }
}
