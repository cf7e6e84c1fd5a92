import Foundation
import Model
import Settings

/// A run as its run file describes it. Every value has its default and its key here, or in the type of its section.
/// `scripts/recipes/example.yaml` shows every key with its default.
struct RunConfig: Section {
  /// The run's name, which is also the name of its folder in `output`.
  var name = ""
  /// The folder that holds runs.
  var output = "runs"
  /// Seed of the initial values, of the order of samples and of dropped patches; `data.seed` is that of crops and
  /// captions.
  var seed: UInt64 = 0
  var model = ModelConfig()
  var start = InitConfig()
  /// Towers or prefixes of names whose parameters are frozen.
  var freeze: [String] = []
  var prune: PruneConfig?
  var data = DataConfig()
  /// CLIP's byte-pair vocabulary file (`bpe_simple_vocab_16e6.txt.gz`), or one from `kinship vocabulary train`.
  var vocabulary = ""
  /// The preparation of images; their size is the model's.
  var image = ImageOptions()
  var batch = BatchConfig()
  /// Length of the run in steps, or in passes over the data; one of the two is given.
  var steps, epochs: Int?
  var reduce = ReduceConfig()
  var optimizer = OptimizerConfig()
  var ema: EMAConfig?
  var objective = ObjectiveOptions()
  /// The model that the student learns from, for objectives that need one.
  var teacher: TeacherConfig?
  var log = LogConfig()
  var checkpoint = CheckpointConfig()
  var evaluate = EvaluateConfig()
  var nonFinite = NonFiniteConfig()
  var watchdog = WatchdogConfig()
  /// The precision in which the towers' matrix products read their operands.
  var precision = PrecisionChoice.fp32

  mutating func fields(_ map: FieldMap) {
    map.required("name", &name, "the run's name; its folder is output/name")
    map.field("output", &output)
    map.field("seed", &seed)
    map.required("model", &model, "a preset such as ViT-T-16, a .json file, or a section")
    map.field("init", &start)
    map.field("freeze", &freeze)
    map.optional("prune", &prune, none: "none")
    map.required("data", &data, "a section with datasets")
    map.required("vocabulary", &vocabulary, "the path of a byte-pair vocabulary file")
    map.field("image", &image)
    map.field("batch", &batch)
    map.optional("steps", &steps, none: "none")
    map.optional("epochs", &epochs, none: "none")
    map.field("reduce", &reduce)
    map.field("optimizer", &optimizer)
    map.optional("ema", &ema, none: "none")
    map.field("objective", &objective)
    map.optional("teacher", &teacher, none: "none")
    map.field("log", &log)
    map.field("checkpoint", &checkpoint)
    map.field("evaluate", &evaluate)
    map.field("non_finite", &nonFinite)
    map.field("watchdog", &watchdog)
    map.field("precision", &precision)
  }

  /// Returns the key that the plain text at `path` is the value of, where the section there has a short form.
  static func shorthandKey(at path: String, _ text: String) -> String? {
    let keys = path.split(separator: ".")
    return switch keys.first {
    case "model" where keys.count == 1: ModelConfig.shorthandKey(text)
    case "objective" where keys.count == 1: ObjectiveOptions.shorthandKey(text)
    case "teacher" where keys.count == 1: TeacherConfig.shorthandKey(text)
    case "teacher" where keys.count == 2 && keys[1] == "cache": CacheConfig.shorthandKey(text)
    case "ema" where keys.count == 1: EMAConfig.shorthandKey(text)
    case "non_finite" where keys.count == 1: NonFiniteConfig.shorthandKey(text)
    case "data" where keys.count == 3 && keys[1] == "datasets": DatasetConfig.shorthandKey(text)
    default: nil
    }
  }

  /// The folder of the run's log, checkpoints and resolved run file.
  var folder: URL {
    URL(filePath: output, directoryHint: .isDirectory).appending(path: name, directoryHint: .isDirectory)
  }

  var yaml: String { tree.yaml }
}
