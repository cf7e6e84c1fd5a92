import Dist
import Foundation

/// A file of weights, known by the ending of its name.
enum WeightsFile {
  /// PyTorch's first has three names.
  static let endings = [".safetensors", ".pt", ".pth", ".bin"] + HDF5Weights.endings

  /// Whether a path names such a file, and not the folder of a run or checkpoint.
  static func isOne(_ path: String) -> Bool { endings.contains { path.hasSuffix($0) } }

  /// Opens a file: `.safetensors`, the index of several, and HDF5's are what they say, everything else PyTorch's.
  static func open(_ path: String) throws -> any NamedTensors {
    if path.hasSuffix(".safetensors") { return try SafetensorsFile(path) }
    if path.hasSuffix(ShardedSafetensors.ending) { return try ShardedSafetensors(path) }
    if HDF5Weights.endings.contains(where: path.hasSuffix) { return try HDF5Weights(path) }
    return try PyTorchFile(path)
  }
}

/// How the tensors of a CLIP model are named and laid out in a file.
enum WeightsForm: String, CaseIterable {
  case openCLIP = "open_clip"
  case huggingFace = "hugging_face"

  /// The form of a file, by names that only one of them has; what is neither is held against open_clip's.
  init(of file: any NamedTensors) {
    let isHuggingFace = file.names.contains { $0.hasPrefix("text_model.") || $0.hasPrefix("vision_model.") }
    self = isHuggingFace ? .huggingFace : .openCLIP
  }

  /// For people.
  var title: String {
    switch self {
    case .openCLIP: "open_clip's names"
    case .huggingFace: "Hugging Face's names"
    }
  }
}
