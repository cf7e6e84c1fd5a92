import Model
import Settings
import Tensor

/// The frozen model that a run learns from. The short form `teacher: PATH` names its weights.
struct TeacherConfig: Section {
  /// Its weights: a run's folder, a checkpoint's folder, or a safetensors or PyTorch file (`WeightsFile`).
  var model = ""
  /// For a safetensors file: the JSON file with the sizes (`model_cfg`, `preprocess_cfg`). Without it, and without
  /// `preset`, open_clip_config.json beside the weights.
  var config: String?
  /// For a safetensors file without such a JSON: the preset with the sizes.
  var preset: String?
  /// The vocabulary that it was trained with. Left out: the run's own where the teacher has the same one, or the one
  /// that the teacher's run had.
  var vocabulary: String?
  var image = TeacherImageConfig()
  /// Pairs that the teacher's towers hold at once, which bounds memory; `all`: the rank's whole share.
  var micro: Int? = 32
  var placement = TeacherPlacement.node
  /// With `spread`: over how many ranks; every so many that follow one another hold the weights once. `all`: over all.
  var spreadOver: Int?
  /// How its towers' matrix products read their operands.
  var precision = PrecisionChoice.fp32
  /// Where `kinship precompute` keeps its embeddings, for training to take them from there; none: it is computed live.
  var cache: CacheConfig?
  /// Further teachers with caches of their own, whose soft targets are averaged with this one's.
  var ensemble: [EnsembleMember] = []

  mutating func fields(_ map: FieldMap) {
    ownFields(map)
    map.field("ensemble", &ensemble)
  }

  /// The keys of any teacher, the first or a further one.
  fileprivate mutating func ownFields(_ map: FieldMap) {
    map.required("model", &model, "the teacher's weights: a run's folder, a checkpoint's, or a safetensors file")
    map.optional("config", &config)
    map.optional("preset", &preset)
    map.optional("vocabulary", &vocabulary)
    map.field("image", &image)
    map.optional("micro", &micro, none: "all")
    map.field("placement", &placement)
    map.optional("spread_over", &spreadOver, none: "all")
    map.field("precision", &precision)
    map.optional("cache", &cache, none: "none")
  }

  static var expectation: String {
    "the path of a model, or a section (model, config, preset, vocabulary, image, micro, placement, spread_over, "
      + "precision, cache, ensemble)"
  }

  static func shorthandKey(_ text: String) -> String? { "model" }

  /// Where the weights are: in a checkpoint of ours, or in a safetensors or PyTorch file.
  var isSafetensors: Bool { WeightsFile.isOne(model) }
}

/// A teacher beside the first: the same keys, but for `ensemble`.
struct EnsembleMember: Section {
  var teacher = TeacherConfig()

  mutating func fields(_ map: FieldMap) { teacher.ownFields(map) }
}

/// Where the teacher's weights are. Its embeddings are the same, bit for bit.
enum TeacherPlacement: String, CaseIterable, FieldValue {
  /// One copy a node, in memory that its ranks share; each has loaded its part.
  case node
  /// Spread over ranks of any nodes; blocks are gathered just ahead of use.
  case spread
  /// A copy on every rank.
  case replicated
}

/// How the teacher's pictures are normalised, where its own files do not say it or say it wrong. Crops and colours are
/// the run's: student and teacher see the same.
struct TeacherImageConfig: Section {
  /// `own`: as the teacher's files say, CLIP's where they do not.
  var mean: [Double]?
  var std: [Double]?

  mutating func fields(_ map: FieldMap) {
    map.optional("mean", &mean, none: "own")
    map.optional("std", &std, none: "own")
  }
}

extension RunConfig {
  /// What is wrong with the teacher, or with its absence, by the path of the key to change.
  var teacherMistakes: [(path: String, text: String)] {
    guard let teacher else {
      guard objective.needsTeacher else { return [] }
      return [
        (
          "teacher",
          "the objective \(objective.preset.rawValue) learns from a teacher, and none is given; set teacher.model to a "
            + "run's folder, a checkpoint or a safetensors file, or objective to clip"
        )
      ]
    }
    return mistakes(of: teacher, "teacher") + ensembleMistakes(teacher)
  }

  /// The same of one teacher; `section` is the path of its section.
  func mistakes(of teacher: TeacherConfig, _ section: String) -> [(path: String, text: String)] {
    var found: [(path: String, text: String)] = []
    func path(_ key: String, _ value: String?) {
      if value == "" { found.append(("\(section).\(key)", "expected a path, found \"\"")) }
    }
    path("model", teacher.model)
    path("config", teacher.config)
    path("vocabulary", teacher.vocabulary)
    for (key, value) in [("config", teacher.config), ("preset", teacher.preset)]
    where value != nil && !teacher.isSafetensors {
      found.append(
        ("\(section).\(key)", "belongs to a safetensors file; \(teacher.model) says itself what it is: take it out"))
    }
    if let preset = teacher.preset {
      if teacher.config != nil { found.append(("\(section).preset", "config and preset are both given; take one out")) }
      do {
        _ = try CLIPConfig(preset: preset)
      } catch {
        found.append(("\(section).preset", "\(error)"))
      }
    }
    if let mean = teacher.image.mean, mean.count != 3 {
      found.append(("\(section).image.mean", "expected [red, green, blue], or own, found \(mean)"))
    }
    if let std = teacher.image.std, std.count != 3 || std.contains(where: { $0 <= 0 }) {
      found.append(("\(section).image.std", "expected [red, green, blue], each more than 0, or own, found \(std)"))
    }
    if let micro = teacher.micro, micro < 1 {
      found.append(("\(section).micro", "expected at least 1, or all, found \(micro)"))
    }
    if let count = teacher.spreadOver {
      if count < 1 { found.append(("\(section).spread_over", "expected at least 1, or all, found \(count)")) }
      if teacher.placement != .spread {
        found.append(
          ("\(section).spread_over", "belongs to placement: spread, found placement: \(teacher.placement.rawValue)"))
      }
    }
    if teacher.precision == .bf16, teacher.placement == .spread {
      found.append(
        (
          "\(section).precision",
          "bf16 keeps a rounded copy of all weights on each rank, which placement: spread is there to avoid; set "
            + "precision to fp32, or placement to node or replicated"
        ))
    }
    return found + cacheMistakes(teacher, section)
  }

  /// Whether the run has a teacher that some term looks at.
  var usesTeacher: Bool { teacher != nil && objective.needsTeacher }

  /// A teacher that nothing looks at is rarely meant.
  var teacherWarnings: [String] {
    guard let teacher, !usesTeacher else { return [] }
    return ["no term of the objective looks at the teacher \(teacher.model): it is not loaded; see objective"]
  }
}
