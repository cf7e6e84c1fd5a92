import Dist
import Foundation
import Model
import Settings
import Tensor

/// The model that is trained: exactly one of `preset`, `file`, or a model written out in open_clip's keys. The short
/// form `model: NAME` gives a preset, `model: FILE.json` a file.
struct ModelConfig: Section {
  /// The name of a preset, such as `ViT-T-16`.
  var preset: String?
  /// A JSON file in open_clip's form; a relative path is looked up from the working folder.
  var file: String?
  /// The width of the embeddings, for a model that is written out.
  var embedDim: Int?
  /// The vision tower, for a model that is written out.
  var vision: VisionConfig?
  /// The text tower, for a model that is written out; `vocab_size: 0` stands for the size of the run's vocabulary.
  var text: TextConfig?
  /// True for x·σ(1.702x) in place of GELU; `auto` leaves the choice to the preset or the file.
  var quickGELU: Bool?
  /// True for a ResNet whose batch norms use the statistics of all ranks' images, false for each rank's own.
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

  /// Creates the model of a short form: the name of a preset, or of a file that ends in .json.
  init(name: String) { if Self.shorthandKey(name) == "file" { file = name } else { preset = name } }

  /// The keys among those for the model's sizes that are given.
  var given: [String] {
    [
      ("preset", preset != nil), ("file", file != nil), ("embed_dim", embedDim != nil), ("vision_cfg", vision != nil),
      ("text_cfg", text != nil),
    ].filter { $0.1 }.map { $0.0 }
  }

  /// True if exactly one source of the model's sizes is given, and in full.
  var isComplete: Bool { [["preset"], ["file"], ["embed_dim", "vision_cfg", "text_cfg"]].contains(given) }

  /// Returns the model's sizes, which it reads from `file` if that is the source. Throws a `ConfigError` for a model
  /// that cannot be built, a `FileError` for a file that cannot be read.
  func resolved() throws -> CLIPConfig {
    precondition(isComplete, "a run is validated before its model is asked for")
    var config: CLIPConfig
    if let preset {
      config = try CLIPConfig(preset: preset)
    } else if let file {
      config = try CLIPConfig(json: Data(TextFile.json(file).utf8))
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

/// The weights with which a run begins at its first step. A run that is resumed has its own.
struct InitConfig: Section {
  /// A model of the same sizes whose weights are copied: a run, a checkpoint, or what `kinship weights import` accepts.
  var from: String?
  /// A larger model, whose weights are cut: a run, a checkpoint, or weights with `open_clip_config.json` beside them.
  var inherit: String?
  /// The towers that inherit; the other one is drawn.
  var towers = Towers.both

  mutating func fields(_ map: FieldMap) {
    map.optional("from", &from, none: "none")
    map.optional("inherit", &inherit, none: "none")
    map.field("towers", &towers)
  }

  var mistakes: [Mistake] {
    var found: [Mistake] = []
    found.expectText("a path, or none", "init.from", from)
    found.expectText("a path, or none", "init.inherit", inherit)
    found.require(
      from == nil || inherit == nil, "init.inherit",
      "init.from takes a model's weights as they are and init.inherit cuts them; set one of the two to none")
    found.require(
      from == nil || inherit != nil || towers == .both, "init.towers",
      "belongs to init.inherit; init.from takes over both towers: take it out")
    return found
  }
}

/// TinyCLIP's automatic weight inheritance: cuts the hidden units, heads and MLP units that the model learns to spare.
struct PruneConfig: Section {
  /// The share of the blocks' parameters that is gone after the cut, relative to the model before any pruning.
  var sparsity = 0.0
  /// The share at which the target begins, which earlier stages have cut.
  var startSparsity = 0.0
  /// The number of steps, in which the learning rate rises, after which the model is cut and its optimizer begins anew.
  var step = 0
  /// The number of steps over which the target rises from `start_sparsity` to `sparsity`.
  var ramp = 1000
  /// AdamW's learning rate for the masks, and for the multipliers that drive them.
  var learningRate = 0.02
  var towers = Towers.both

  mutating func fields(_ map: FieldMap) {
    map.required("sparsity", &sparsity, "the share of the blocks' parameters to cut away")
    map.field("start_sparsity", &startSparsity)
    map.required("step", &step, "the number of steps after which the model is cut")
    map.field("ramp", &ramp)
    map.field("learning_rate", &learningRate)
    map.field("towers", &towers)
  }

  /// Returns the mistakes in a run of `steps` steps.
  func mistakes(steps: Int?) -> [Mistake] {
    var found: [Mistake] = []
    found.expect("more than 0 and less than 1", "prune.sparsity", sparsity) { $0 > 0 && $0 < 1 }
    let range = "0 to prune.sparsity (\(sparsity))"
    found.expect(range, "prune.start_sparsity", startSparsity) { $0 >= 0 && $0 <= sparsity }
    found.expect("at least 1", "prune.step", step) { $0 >= 1 }
    if step >= 1, let steps, step >= steps {
      found.append(("prune.step", "\(step) is not before the run's end (\(steps) steps); lower it, or raise steps"))
    }
    found.expect("0 steps or more", "prune.ramp", ramp) { $0 >= 0 }
    found.expect("more than 0", "prune.learning_rate", learningRate) { $0 > 0 }
    return found
  }
}
