import Dist
import Foundation

/// A file of weights, whose format follows from the ending of its name.
enum WeightsFile {
  /// The endings of safetensors, of PyTorch's files (three) and of HDF5's.
  static let endings = [".safetensors", ".pt", ".pth", ".bin"] + HDF5Weights.endings

  /// Returns true if a path names a file of weights, and not the folder of a run or checkpoint.
  static func isOne(_ path: String) -> Bool { endings.contains { path.hasSuffix($0) } }

  /// Opens a file: safetensors, an index of several, or HDF5 by their endings, and PyTorch for any other.
  static func open(_ path: String) throws -> any NamedTensors {
    if path.hasSuffix(".safetensors") { return try SafetensorsFile(path) }
    if path.hasSuffix(ShardedSafetensors.ending) { return try ShardedSafetensors(path) }
    if HDF5Weights.endings.contains(where: path.hasSuffix) { return try HDF5Weights(path) }
    return try PyTorchFile(path)
  }
}

/// The names and layouts of a CLIP model's tensors in a file.
enum WeightsForm: String, CaseIterable {
  case openCLIP = "open_clip"
  case huggingFace = "hugging_face"

  /// Recognizes the form by names that only Hugging Face uses; any other file counts as open_clip's.
  init(of file: any NamedTensors) {
    let isHuggingFace = file.names.contains { $0.hasPrefix("text_model.") || $0.hasPrefix("vision_model.") }
    self = isHuggingFace ? .huggingFace : .openCLIP
  }

  var title: String { self == .openCLIP ? "open_clip's names" : "Hugging Face's names" }
}

extension SHA256 {
  /// Returns the SHA-256 of a file as hexadecimal digits. The file is read in pieces, because a file of weights may be
  /// larger than a rank's memory. Throws a `UserError` (exit code 74) if the file cannot be read.
  static func ofFile(_ path: String) throws -> String {
    do { return try OpenFile.reading(path).sha256() } catch {
      throw UserError(path, error.reason, status: error.status)
    }
  }

  /// Returns the SHA-256 of a file of weights, or of the list of its shards' checksums if it is sharded.
  static func ofWeights(_ file: any NamedTensors) throws -> String {
    guard let sharded = file as? ShardedSafetensors else { return try ofFile(file.path) }
    return hash(try sharded.parts.map(ofFile).joined(separator: "\n").utf8).hexadecimal
  }
}

extension Communicator {
  /// Returns the SHA-256 of a large file, which rank 0 computes by `sum` for all ranks whose path leads to the same
  /// file; any other rank reads its own. Every rank must call it.
  func sha256(of path: String, once sum: () throws -> String) throws -> String {
    let status = try FileManager.default.attributesOfItem(atPath: URL(filePath: path).resolvingSymlinksInPath().path)
    let files = try allGather("\(status[.systemNumber] ?? "") \(status[.systemFileNumber] ?? "")")
    let found = try broadcast(sum)
    return files[rank] == files[0] ? found : try SHA256.ofFile(path)
  }
}
