import Dist
import Foundation
import Tensor

/// A file of weights, whose format follows from the ending of its name.
enum WeightsFile {
  /// The endings of safetensors, of an index of several, of PyTorch's files (three) and of HDF5's.
  static let endings = [".safetensors", ShardedSafetensors.ending, ".pt", ".pth", ".bin"] + HDF5Weights.endings
  /// The names of weights for which a folder is searched, in this order.
  static let usual = [
    ModelFiles.weights, "open_clip_pytorch_model.bin", HuggingFaceFiles.weights,
    HuggingFaceFiles.weights + ".index.json", "pytorch_model.bin",
  ]

  /// Returns true if a path names a file of weights, and not a folder.
  static func isOne(_ path: String) -> Bool { endings.contains { path.hasSuffix($0) } }

  /// Returns the weights under a usual name in a folder; nil if it has none.
  static func first(in folder: String) -> String? {
    usual.map { URL(filePath: folder).appending(path: $0).relativePath }
      .first(where: FileManager.default.fileExists(atPath:))
  }

  /// Returns the file of weights that a path names, or that lies in the folder at the path, as after
  /// `kinship weights import`; nil for a run, a checkpoint, and a folder with none of these.
  static func find(_ path: String) -> String? {
    isOne(path) ? path : TrainedModel.isOne(path) ? nil : first(in: path)
  }

  /// Does the same on all ranks, which must call it. Throws a `RankDifference` if they do not find the same.
  static func find(_ path: String, over ranks: Communicator?) throws -> String? {
    let file = find(path)
    try ranks?.requireSame("model \(path)", file ?? "no file of weights", isShown: true)
    return file
  }

  /// Opens a file: safetensors, an index of several, or HDF5 by their endings, and PyTorch for any other. The names of
  /// its tensors are those of the bare model; see `UnwrappedTensors`.
  static func open(_ path: String) throws -> any NamedTensors { try UnwrappedTensors.unwrapping(stored(path)) }

  private static func stored(_ path: String) throws -> any NamedTensors {
    if path.hasSuffix(".safetensors") { return try SafetensorsFile(path) }
    if path.hasSuffix(ShardedSafetensors.ending) { return try ShardedSafetensors(path) }
    if HDF5Weights.endings.contains(where: path.hasSuffix) { return try HDF5Weights(path) }
    return try PyTorchFile(path)
  }
}

/// The names and layouts of a CLIP model's tensors in a file.
enum WeightsForm {
  case openCLIP, huggingFace

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

  /// Returns the SHA-256 of a file of weights, or of the list of its shards' checksums if it is sharded, and verifies
  /// the checksums that safetensors have inside. Tensors of 32-bit floats that were read before, and that `values`
  /// returns, are not read again.
  static func ofWeights(
    _ file: any NamedTensors, having values: (_ name: String) -> Tensor<Float>? = { _ in nil }
  ) throws -> String {
    switch file {
    case let file as UnwrappedTensors: return try ofWeights(file.file) { values(UnwrappedTensors.bare($0)) }
    case let file as SafetensorsFile: return try file.sha256(having: values)
    case let file as ShardedSafetensors:
      return hash(try file.parts.map { try $0.sha256(having: values) }.joined(separator: "\n").utf8).hexadecimal
    default: return try ofFile(file.path)
    }
  }
}
