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

  /// The form's name in messages.
  var title: String {
    switch self {
    case .openCLIP: "open_clip's names"
    case .huggingFace: "Hugging Face's names"
    }
  }
}
