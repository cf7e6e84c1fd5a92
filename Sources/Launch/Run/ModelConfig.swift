import Foundation
import Model
import Settings
import Tensor

/// Which model is trained: exactly one of `preset`, `file`, or a model written out in open_clip's keys.
///
/// The short form `model: NAME` is a preset, `model: FILE.json` a file.
struct ModelConfig: Section {
  /// A preset's name, such as `ViT-T-16`.
  var preset: String?
  /// A JSON file in open_clip's form; a relative path is looked up from the working folder.
  var file: String?
  /// Width of the embeddings, for a model that is written out.
  var embedDim: Int?
  /// The vision tower, for a model that is written out.
  var vision: VisionConfig?
  /// The text tower, for a model that is written out; `vocab_size: 0` is the size of the run's vocabulary.
  var text: TextConfig?
  /// x·σ(1.702x) in place of GELU; `auto`: as the preset or the file has it.
  var quickGELU: Bool?
  /// Whether a ResNet's batch norm takes the statistics of all ranks together, and not those of each rank's own
  /// pictures.
  var syncBatchNorm = false

  mutating func fields(_ map: FieldMap) {
    map.optional("preset", &preset)
    map.optional("file", &file)
    map.optional("embed_dim", &embedDim)
    map.optional("vision_cfg", &vision)
    map.optional("text_cfg", &text)
    map.optional("quick_gelu", &quickGELU, none: "auto")
    map.field("sync_bn", &syncBatchNorm)
  }

  static var expectation: String { "the name of a preset, a .json file, or a section" }

  static func shorthandKey(_ text: String) -> String? { text.hasSuffix(".json") ? "file" : "preset" }

  init() {}

  /// What the short form means: a preset's name, or a file that ends in .json.
  init(name: String) {
    if Self.shorthandKey(name) == "file" { file = name } else { preset = name }
  }

  /// The keys that say where the model's sizes come from, as far as they are given.
  var given: [String] {
    [
      preset.map { _ in "preset" }, file.map { _ in "file" }, embedDim.map { _ in "embed_dim" },
      vision.map { _ in "vision_cfg" }, text.map { _ in "text_cfg" },
    ].compactMap { $0 }
  }

  /// Whether exactly one source is given, in full.
  var isComplete: Bool {
    [["preset"], ["file"], ["embed_dim", "vision_cfg", "text_cfg"]].contains(given)
  }

  /// The model's sizes; reads `file` if that is the source. Throws a `ConfigError` for what cannot be built, and the
  /// system's error for a file that cannot be read.
  func resolved() throws -> CLIPConfig {
    precondition(isComplete, "a run is validated before its model is asked for")
    var config: CLIPConfig
    if let preset {
      config = try CLIPConfig(preset: preset)
    } else if let file {
      config = try CLIPConfig(json: Data(contentsOf: URL(filePath: file)))
    } else if let embedDim, let vision, let text {
      config = CLIPConfig(embedding: embedDim, vision: vision, text: text)
    } else {
      preconditionFailure("one of the sources is given")
    }
    if let quickGELU { config.activation = quickGELU ? .quickGELU : .gelu }
    try config.validate()
    return config
  }
}
