import Dist
import Foundation
import Settings

/// `base: FILE` at the top of a run file names another run file, which gives the value of every key that the first does
/// not give.
///
/// Lists and short forms are replaced as a whole. A relative path starts at the folder of the file that names it, and a
/// base may have a base of its own. The resolved run has no base.
enum BaseFile {
  private static let key = "base"

  /// Lays the tree of the run file `file` over that of its base, if it names one.
  ///
  /// - Parameter files: the paths of the run files whose bases led to this one.
  static func apply(to root: inout RunNode, of file: String, after files: [String] = []) throws(RunFileError) {
    guard case .section(let entries) = root.value, let entry = entries.first(where: { $0.key == key }) else { return }
    let problems = Problems()
    let name = String.read(entry.value, problems)
    try problems.check()
    guard let name else { return }
    root.value = .section(entries.filter { $0.key != key })

    let folder = URL(filePath: file).deletingLastPathComponent()
    let path = URL(filePath: name, relativeTo: folder).standardizedFileURL.path(percentEncoded: false)
    func problem(_ text: String) -> RunFileError {
      RunFileError(problems: [Problem(place: entry.value.place, text: "base: \(text)")])
    }
    let before = files + [URL(filePath: file).standardizedFileURL.path(percentEncoded: false)]
    guard !before.contains(path) else { throw problem("\(name) is based on this file again; take one base out") }
    let text: String
    do {
      text = try RunConfig.text(of: path)
    } catch {
      throw problem((error as? RunFileUnreadable)?.description ?? "\(error)")
    }
    var base = try RunNode.parse(text) { .file(name, line: $0, column: $1) }
    try RenamedKeys.replace(in: &base)
    try apply(to: &base, of: path, after: before)
    root = root.laid(over: base)
  }
}

extension RunNode {
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
    var node = self
    node.value = .section(merged)
    return node
  }

  /// The section that a short form stands for; any other node as it is.
  var expanded: RunNode {
    guard case .scalar(let text, _) = value, !isNothing, let key = RunConfig.shorthandKey(at: path, text) else {
      return self
    }
    return RunNode(place: place, path: path, value: .section([.init(key: key, place: place, value: self)]))
  }
}
