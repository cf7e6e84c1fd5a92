import Dist
import Tensor

/// A file of weights under the names of the bare model. Training programs wrap a model in others, whose names then
/// stand in those of its tensors, in any order: `module.` (DistributedDataParallel), `_orig_mod.` (torch.compile) and
/// `model.` (Lightning). open_clip's CustomTextCLIP has `text.` before the names of the text tower.
struct UnwrappedTensors: NamedTensors {
  let file: any NamedTensors
  let names: [String]
  /// The names in the file by those without wrappers.
  private let originals: [String: String]
  private static let wrappers = ["_orig_mod", "module", "model"]

  /// Returns a view of the file, or the file itself if it has no wrapped names. Throws a `UserError` if two names
  /// differ only in their wrappers.
  static func unwrapping(_ file: any NamedTensors) throws -> any NamedTensors {
    let names = file.names.map(bare)
    guard names != file.names else { return file }
    var originals: [String: String] = [:]
    for (name, original) in zip(names, file.names) {
      guard let other = originals.updateValue(original, forKey: name) else { continue }
      throw UserError(
        file.path, "holds \(other) and \(original), which are both \(name); save one of the two models alone")
    }
    return UnwrappedTensors(file: file, names: names, originals: originals)
  }

  /// Returns the name without wrappers of a tensor in a file.
  static func bare(_ name: String) -> String {
    var parts = name.split(separator: ".", omittingEmptySubsequences: false)
    parts.removeAll { wrappers.contains(String($0)) }
    if parts.count > 1, parts[0] == "text" { parts.removeFirst() }
    return parts.isEmpty ? name : parts.joined(separator: ".")
  }

  /// The parts of the file's names that are left out, each with its dot.
  var removed: [String] {
    (Self.wrappers + ["text"]).map { "\($0)." }
      .filter { part in file.names.contains { $0.hasPrefix(part) || $0.contains(".\(part)") } }
  }

  var path: String { file.path }
  var metadata: [String: String] { file.metadata }
  func contains(_ name: String) -> Bool { originals[name] != nil }
  func stored(_ name: String) throws -> StoredTensor { try file.stored(originals[name] ?? name) }
  func integers(_ name: String) throws -> [Int] { try file.integers(originals[name] ?? name) }

  func verify(having values: (_ name: String) -> Tensor<Float>?) throws -> Bool {
    try file.verify { values(Self.bare($0)) }
  }
}
