import Dist
import Model
import Settings

/// The frozen model that a run learns from. The short form `teacher: PATH` names its weights.
struct TeacherConfig: Section {
  /// The weights: a run's folder, a checkpoint's folder, a folder of `kinship weights import`, or a safetensors or
  /// PyTorch file (`WeightsFile`); empty if another program computed the embeddings in the cache.
  var model = ""
  /// The JSON file with the sizes of a teacher in a safetensors file. Default: open_clip_config.json beside it.
  var config: String?
  /// The preset with the sizes of a teacher in a safetensors file, in place of the JSON file.
  var preset: String?
  /// The vocabulary of its training. Default: the run's own where the teacher has the same, else that of its own run.
  var vocabulary: String?
  var image = TeacherImageConfig()
  /// The number of pairs that the teacher's towers process together, which bounds memory; `all`: the whole local batch.
  var microBatchSize: Int? = 32
  var placement = TeacherPlacement.node
  /// The number of consecutive ranks over which one copy of the weights is sharded; `all`: all ranks.
  var shardOver: Int?
  /// The precision in which the towers' matrix products read their operands.
  var precision = PrecisionChoice.fp32
  /// The cache from which training takes the teacher's embeddings; `none`: they are computed during training.
  var cache: CacheConfig?
  /// Further teachers with caches of their own, whose soft targets are averaged with this one's.
  var ensemble: [EnsembleMember] = []

  mutating func fields(_ map: FieldMap) {
    ownFields(map)
    map.field("ensemble", &ensemble)
  }

  /// Declares the keys of any teacher, the first or a further one.
  fileprivate mutating func ownFields(_ map: FieldMap) {
    if map.isReading || !isImported {
      map.required(
        "model", &model, "the teacher's weights: a run's folder, a checkpoint's, or weights", unless: "cache")
    }
    map.optional("config", &config)
    map.optional("preset", &preset)
    map.optional("vocabulary", &vocabulary)
    map.field("image", &image)
    map.optional("micro_batch_size", &microBatchSize, none: "all")
    map.field("placement", &placement)
    map.optional("shard_over", &shardOver, none: "all")
    map.field("precision", &precision)
    map.optional("cache", &cache, none: "none")
  }

  static var expectation: String {
    "the path of a model, or a section (model, config, preset, vocabulary, image, micro_batch_size, placement, "
      + "shard_over, precision, cache, ensemble)"
  }
  static func shorthandKey(_ text: String) -> String? { "model" }

  /// True if there are only embeddings that another program computed (`kinship precompute --from`), and no model.
  var isImported: Bool { model.isEmpty }
  /// The teacher's name in messages.
  var name: String { isImported ? cache?.path ?? "" : model }

  /// True if the weights are in a safetensors or PyTorch file, false if they are in a checkpoint of Kinship's.
  var isSafetensors: Bool { WeightsFile.find(model) != nil }
}

/// A teacher beside the first. It has the same keys, except `ensemble`.
struct EnsembleMember: Section {
  var teacher = TeacherConfig()

  mutating func fields(_ map: FieldMap) { teacher.ownFields(map) }
}

/// The place of a teacher's weights. Its embeddings are bit for bit the same in each. `node`: each node has one copy,
/// in memory that its ranks share, of which each loads a part. `sharded`: the weights are sharded over ranks of any
/// nodes, and blocks are gathered just before they are used. `replicated`: every rank has a copy.
enum TeacherPlacement: String, CaseIterable, FieldValue { case node, sharded, replicated }

/// The normalisation of a teacher's images and their transparency, if its own files lack them or are wrong. Crops and
/// colours are the run's.
struct TeacherImageConfig: Section {
  /// `own`: the values in the teacher's files, or CLIP's if they have none.
  var mean, std: [Double]?
  /// `own`: as the teacher's files say, or `drop` if they do not, as in open_clip.
  var alpha: AlphaHandling?

  mutating func fields(_ map: FieldMap) {
    map.optional("mean", &mean, none: "own")
    map.optional("std", &std, none: "own")
    map.optional("alpha", &alpha, none: "own")
  }
}

/// A cache of embeddings that were computed before the training. The short form `cache: PATH` names its folder.
struct CacheConfig: Section {
  /// The folder, which has a folder for each dataset.
  var path = ""
  /// The format in which `kinship precompute` stores the numbers.
  var type = CacheType.fp32
  /// The number of samples in each file; `auto`: 16,384, fewer for datasets of less than a million images.
  var part: Int?

  mutating func fields(_ map: FieldMap) {
    map.required("path", &path, "the folder of the cache")
    map.field("type", &type)
    map.optional("part", &part, none: "auto")
  }

  static var expectation: String { "a folder, or a section (path, type, part)" }
  static func shorthandKey(_ text: String) -> String? { "path" }

  /// Returns the number of samples in each part of the cache of a dataset. It does not depend on the number of ranks.
  func partSamples(of samples: Int) -> Int {
    let block = 64
    // Enough parts for some dozens of ranks to share, in whole blocks.
    return part ?? min(max((samples / 64 + block - 1) / block, 1) * block, 16_384)
  }

  /// Returns the folder of one dataset, whose name may be any text and must not lead out of the cache.
  func folder(of dataset: Dataset) -> String {
    let name = dataset.name.replacing("/", with: "_")
    return "\(path)/\(name.hasPrefix(".") ? "_" + name : name)"
  }
}

extension RunConfig {
  /// True if the run has a teacher and a term that uses it.
  var usesTeacher: Bool { teacher != nil && objective.needsTeacher }

  /// The run with each of its further teachers in place of the first one.
  var ofFurtherTeachers: [RunConfig] {
    guard let first = teacher, usesTeacher else { return [] }
    return first.ensemble.map { member in
      var run = self
      run.teacher = member.teacher
      return run
    }
  }

  var teacherMistakes: [Mistake] {
    if let teacher { return mistakes(of: teacher, "teacher") + ensembleMistakes(teacher) }
    guard objective.needsTeacher else { return [] }
    let needing = objective.keys(needing: .teacherSoftmaxes) + objective.keys(needing: .teacherEmbeddings)
    let keys = objective.keys(needing: []).filter { needing.contains($0) }
    let (terms, learn) = keys.count == 1 ? ("term", "learns") : ("terms", "learn")
    let text =
      "the objective's \(terms) \(keys.joined(separator: ", ")) \(learn) from a teacher, and none is given; set "
      + "teacher.model to a run's folder, a checkpoint or a safetensors file, or objective to clip"
    return [("teacher", text)]
  }

  /// Returns the mistakes in one teacher, whose section has the path `section`.
  private func mistakes(of teacher: TeacherConfig, _ section: String) -> [Mistake] {
    var found: [Mistake] = []
    guard !teacher.isImported || teacher.cache == nil else {
      let keys = ["config": teacher.config, "preset": teacher.preset, "vocabulary": teacher.vocabulary]
      for (key, _) in keys.filter({ $0.value != nil }).sorted(by: { $0.key < $1.key }) {
        found.append(("\(section).\(key)", "describes a model, and \(section).model names none: take it out"))
      }
      return found + cacheMistakes(of: teacher, section)
    }
    found.expectText("a path", "\(section).model", teacher.model)
    found.expectText("a path", "\(section).config", teacher.config)
    found.expectText("a path", "\(section).vocabulary", teacher.vocabulary)
    for (key, value) in [("config", teacher.config), ("preset", teacher.preset)] {
      found.require(
        value == nil || teacher.isSafetensors, "\(section).\(key)",
        "belongs to a safetensors file; \(teacher.model) says itself what it is: take it out")
    }
    if let preset = teacher.preset {
      found.require(teacher.config == nil, "\(section).preset", "config and preset are both given; take one out")
      do { _ = try CLIPConfig(preset: preset) } catch { found.append(("\(section).preset", "\(error)")) }
    }
    found.expect("[red, green, blue], or own", "\(section).image.mean", teacher.image.mean) { $0.count == 3 }
    found.expect("[red, green, blue], each more than 0, or own", "\(section).image.std", teacher.image.std) {
      $0.count == 3 && $0.allSatisfy { $0 > 0 }
    }
    found.expect("at least 1, or all", "\(section).micro_batch_size", teacher.microBatchSize) { $0 >= 1 }
    found.expect("at least 1, or all", "\(section).shard_over", teacher.shardOver) { $0 >= 1 }
    found.require(
      teacher.shardOver == nil || teacher.placement == .sharded, "\(section).shard_over",
      "belongs to placement: sharded, found placement: \(teacher.placement.rawValue)")
    found.require(
      teacher.precision != .bf16 || teacher.placement != .sharded, "\(section).precision",
      "bf16 keeps a rounded copy of all weights on each rank, which placement: sharded is there to avoid; set "
        + "precision to fp32, or placement to node or replicated")
    return found + cacheMistakes(of: teacher, section)
  }

  private func cacheMistakes(of teacher: TeacherConfig, _ section: String) -> [Mistake] {
    guard let cache = teacher.cache else { return [] }
    var found: [Mistake] = []
    found.expectText("a folder", "\(section).cache.path", cache.path)
    found.expect("at least 1, or auto", "\(section).cache.part", cache.part) { $0 >= 1 }
    // Embeddings that another program computed may be of captions alone.
    found.require(
      data.views != 0 || image.isFixed || teacher.isImported, "data.views",
      "0 (no crop is ever shown twice) leaves nothing to compute beforehand; with teacher.cache, set it to the crops "
        + "that each image is to have, or image.crop to center")
    return found
  }

  private func ensembleMistakes(_ first: TeacherConfig) -> [Mistake] {
    guard !first.ensemble.isEmpty else { return [] }
    var found: [Mistake] = []
    found.require(
      first.cache != nil, "teacher.ensemble",
      "the embeddings of several teachers come from caches, and the first one has none; set teacher.cache, and run "
        + "kinship precompute, which computes them all")
    let followers = ObjectiveOptions.allKeys(needing: .teacherSoftmaxes).joined(separator: ", ")
    found.require(
      !usesTeacher || !objective.keys(needing: .teacherSoftmaxes).isEmpty, "teacher.ensemble",
      "no term of the objective follows softmaxes (\(followers)), of which alone several teachers' are averaged; give "
        + "one of them a weight, or take ensemble out")
    var folders = [first.cache?.path]
    for (index, member) in first.ensemble.enumerated() {
      let section = "teacher.ensemble.\(index)"
      found += mistakes(of: member.teacher, section)
      guard let cache = member.teacher.cache else {
        found.append(("\(section).cache", "is missing: the folder of its embeddings"))
        continue
      }
      found.require(
        !folders.contains(cache.path), "\(section).cache",
        "\(cache.path) is another teacher's; each needs a folder of its own")
      folders.append(cache.path)
    }
    return found
  }

  var teacherWarnings: [String] {
    guard let teacher, !usesTeacher else { return [] }
    return ["no term of the objective looks at the teacher \(teacher.name): it is not loaded; see objective"]
  }
}
