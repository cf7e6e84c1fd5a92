import Dist
import Foundation
import Model
import Settings
import Tensor

/// A run, as its file describes it: every value has its default here and its key in `fields`, nowhere else.
///
/// `scripts/recipes/example.yaml` shows every key with its default.
struct RunConfig: Section {
  /// The run's name, and its folder's in `output`.
  var name = ""
  /// The folder in which runs are kept.
  var output = "runs"
  /// Seed of the initial values and of the order of samples; `data.seed` rules crops and captions.
  var seed: UInt64 = 0
  var model = ModelConfig()
  /// What the first step begins with.
  var start = InitConfig()
  /// Towers, or beginnings of names, whose parameters stay as they are.
  var freeze: [String] = []
  /// How the model is made smaller while it trains.
  var prune: PruneConfig?
  var data = DataConfig()
  /// CLIP's byte-pair vocabulary file (`bpe_simple_vocab_16e6.txt.gz`), or one from `kinship vocabulary train`.
  var vocabulary = ""
  var image = ImageConfig()
  var batch = BatchConfig()
  /// Length of the run in steps; either this or `epochs`.
  var steps: Int?
  /// Length of the run in passes over the data; either this or `steps`.
  var epochs: Int?
  var reduce = ReduceConfig()
  var optimizer = OptimizerConfig()
  /// A moving average of the weights, if one is kept.
  var ema: EMAConfig?
  var objective = ObjectiveOptions()
  /// The model that a student learns from, for objectives that have one.
  var teacher: TeacherConfig?
  var log = LogConfig()
  var checkpoint = CheckpointConfig()
  var evaluate = EvaluateConfig()
  var nonFinite = NonFiniteConfig()
  var watchdog = WatchdogConfig()
  /// How the towers' matrix products read their operands.
  var precision = PrecisionChoice.fp32

  mutating func fields(_ map: FieldMap) {
    map.required("name", &name, "the run's name; its folder is output/name")
    map.field("output", &output)
    map.field("seed", &seed)
    map.required("model", &model, "a preset such as ViT-T-16, a .json file, or a section")
    map.field("init", &start)
    map.field("freeze", &freeze)
    map.optional("prune", &prune, none: "none")
    map.required("data", &data, "a section with corpora")
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

  /// The key that a plain text at `path` is short for, where the section there has a short form.
  static func shorthandKey(at path: String, _ text: String) -> String? {
    let keys = path.split(separator: ".")
    return switch keys.first {
    case "model" where keys.count == 1: ModelConfig.shorthandKey(text)
    case "objective" where keys.count == 1: ObjectiveOptions.shorthandKey(text)
    case "teacher" where keys.count == 1: TeacherConfig.shorthandKey(text)
    case "teacher" where keys.count == 2 && keys[1] == "cache": CacheConfig.shorthandKey(text)
    case "ema" where keys.count == 1: EMAConfig.shorthandKey(text)
    case "non_finite" where keys.count == 1: NonFiniteConfig.shorthandKey(text)
    case "data" where keys.count == 3 && keys[1] == "corpora": CorpusConfig.shorthandKey(text)
    default: nil
    }
  }

  /// Where the run's log, checkpoints and resolved run file go.
  var folder: URL {
    URL(filePath: output, directoryHint: .isDirectory).appending(path: name, directoryHint: .isDirectory)
  }

  /// The run with every key written out, in the run file's own format.
  var yaml: String { tree.yaml }
}

extension RunConfig {
  /// Largest run file that is read, in bytes.
  private static let largest = 1 << 20

  /// Reads a run file, puts the overrides (`optimizer.rate=1e-3`) in, and checks the whole.
  ///
  /// Throws a `RunFileError` that names every mistake with its line and column, or a `RunFileUnreadable`.
  static func load(_ path: String, overrides: [String] = []) throws -> RunConfig {
    try decode(text(of: path), file: path, overrides: overrides)
  }

  /// The text of a run file.
  static func text(of path: String) throws -> String {
    let data: Data
    do {
      data = try Data(contentsOf: URL(filePath: path))
    } catch {
      throw RunFileUnreadable(path: path, reason: (error as NSError).localizedFailureReason ?? "\(error)")
    }
    guard data.count <= largest else {
      throw RunFileUnreadable(
        path: path, reason: "\(data.count) bytes are too many for a run file (at most \(largest))")
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      throw RunFileUnreadable(path: path, reason: "it is not UTF-8 text")
    }
    return text
  }

  /// Reads a run file's text; `file` is its name in messages, and where its base is looked up from.
  static func decode(_ text: String, file: String, overrides: [String] = []) throws(RunFileError) -> RunConfig {
    var root = try RunNode.parse(text) { .file(file, line: $0, column: $1) }
    try BaseFile.apply(to: &root, of: file)
    for argument in overrides { try Override(argument).apply(to: &root) }
    let problems = Problems()
    let run = RunConfig.read(root, problems)
    try problems.check()
    guard let run else { preconditionFailure("a run file that cannot be read has problems") }
    try run.validate(problems)
    return run
  }
}

/// A run file that cannot be opened or is no text.
struct RunFileUnreadable: ExitCoded, CustomStringConvertible {
  var path: String
  var reason: String

  var exitCode: Int32 { 74 }
  var description: String { "cannot read the run file \(path): \(reason)" }
}
