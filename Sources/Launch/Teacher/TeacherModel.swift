import Dist
import Foundation
import Model
import Tensor

/// A run's teacher before its weights are read: its sizes, and its preparation of images and captions.
struct TeacherModel {
  /// The time at which the checksum of a teacher's file is computed.
  enum ChecksumTime { case now, whenRead }

  let path: String
  /// The checksum of a safetensors file, or of a checkpoint's manifest, which has the checksums of all parts. It is
  /// empty until the weights are read if it is computed then.
  private(set) var sha256: String
  let config: CLIPConfig
  /// The teacher's normalisation and size with the run's crops, and its tokenizer.
  let input: InputOptions
  /// The path of its vocabulary.
  let vocabulary: String
  let microBatchSize: Int?
  let placement: TeacherPlacement
  let precision: ProductPrecision
  /// The folder of the cache with its embeddings, if it has one.
  let cache: String?
  /// The number of ranks over which the weights are sharded if they are; nil for all ranks.
  let shardOver: Int?
  private let checkpoint: Checkpoint?

  /// Describes the run's teacher; nil if no term uses one. If there are `ranks`, all must call it. With `whenRead` the
  /// checksum of a file is left to `load(over:)`, which reads the whole file anyway.
  init?(_ run: RunConfig, over ranks: Communicator? = nil, checksum time: ChecksumTime = .now) throws {
    guard let teacher = run.teacher, run.usesTeacher else { return nil }
    path = teacher.model
    microBatchSize = teacher.microBatchSize
    placement = teacher.placement
    let wanted = teacher.precision.used
    precision =
      try ranks.map { try .agreed(wanted, key: "teacher.precision", over: $0) } ?? ProductPrecision(used: wanted)
    cache = teacher.cache?.path
    shardOver = teacher.shardOver
    let words: Vocabulary
    var image: ImageOptions
    if teacher.isSafetensors {
      checkpoint = nil
      guard FileManager.default.fileExists(atPath: path) else {
        throw UserError(path, "there is no such file; teacher.model names the weights", status: .inputOutput)
      }
      let sum = { try SHA256.ofFile(teacher.model) }
      sha256 =
        switch time {
        case .now: try ranks.map { try $0.node().sha256(of: teacher.model, once: sum) } ?? sum()
        case .whenRead: ""
        }
      (config, words, vocabulary, image) = try Self.describe(teacher, run)
    } else {
      let opened = try Checkpoint.open(TrainedModel.checkpoint(path), communicator: ranks)
      let saved = try SavedRun(opened)
      checkpoint = opened
      sha256 = try SHA256.ofFile("\(opened.folder)/\(CheckpointManifest.file)")
      config = try CLIPConfig(json: Data(saved.model.utf8))
      vocabulary = try Self.vocabulary(of: saved, teacher, run)
      words = try Vocabulary(contentsOf: vocabulary)
      image = saved.image
    }
    image.mean = teacher.image.mean?.map { Float($0) } ?? image.mean
    image.std = teacher.image.std?.map { Float($0) } ?? image.std
    input = InputOptions(
      image: image.cropped(as: run.image),
      tokenizer: BytePairTokenizer(vocabulary: words, context: config.text.contextLength))
  }

  /// Describes a teacher in open_clip's form. Its sizes come from a preset or a JSON file, and its tokens from the
  /// vocabulary that the run names for it.
  private static func describe(
    _ teacher: TeacherConfig, _ run: RunConfig
  ) throws -> (CLIPConfig, Vocabulary, String, ImageOptions) {
    var config = try sizes(teacher)
    var image = ImageOptions()
    image.size = config.vision.imageSize
    if teacher.preset == nil { image = try ModelFiles.preprocessing(sizesFile(teacher), size: image.size) }
    let path = teacher.vocabulary ?? run.vocabulary
    let words = try Vocabulary(contentsOf: path)
    if config.text.vocabularySize == 0 { config.text.vocabularySize = words.size }
    guard config.text.vocabularySize == words.size else {
      throw UserError(
        path,
        "has \(words.size) tokens, and the teacher \(teacher.model) knows \(config.text.vocabularySize); "
          + "name the vocabulary that it was trained with in teacher.vocabulary")
    }
    return (config, words, path, image)
  }

  /// Returns the sizes of a teacher in open_clip's form, whose weights need not exist.
  private static func sizes(_ teacher: TeacherConfig) throws -> CLIPConfig {
    if let preset = teacher.preset { return try CLIPConfig(preset: preset) }
    return try ModelFiles.sizes(sizesFile(teacher))
  }

  private static func sizesFile(_ teacher: TeacherConfig) throws -> String {
    let file = teacher.config ?? ModelFiles.description(of: teacher.model)
    guard FileManager.default.fileExists(atPath: file) else {
      throw UserError(
        file,
        "there is no such file, so the sizes of the teacher are not known; name its JSON file in "
          + "teacher.config, or a preset in teacher.preset",
        status: .inputOutput)
    }
    return file
  }

  /// Returns a teacher's sizes without reading its vocabulary. If it is in open_clip's form, its weights need not
  /// exist. Every rank must call it.
  static func sizes(_ teacher: TeacherConfig, over ranks: Communicator) throws -> CLIPConfig {
    if teacher.isSafetensors { return try sizes(teacher) }
    let saved = try SavedRun(Checkpoint.open(TrainedModel.checkpoint(teacher.model), communicator: ranks))
    return try CLIPConfig(json: Data(saved.model.utf8))
  }

  /// Returns the path of a file with the vocabulary that the teacher in a checkpoint was trained with.
  private static func vocabulary(of saved: SavedRun, _ teacher: TeacherConfig, _ run: RunConfig) throws -> String {
    func isRight(_ path: String) throws -> Bool { try SHA256.ofFile(path) == saved.vocabularySHA256 }
    let wanted = "the vocabulary that the teacher \(teacher.model) was trained with (\(saved.vocabulary), SHA-256 "
    if let path = teacher.vocabulary {
      guard try isRight(path) else {
        throw UserError(path, "is not \(wanted)\(saved.vocabularySHA256))")
      }
      return path
    }
    if try isRight(run.vocabulary) { return run.vocabulary }
    guard FileManager.default.fileExists(atPath: saved.vocabulary), try isRight(saved.vocabulary) else {
      throw UserError(
        saved.vocabulary,
        "is not there, or no longer \(wanted)\(saved.vocabularySHA256)); name that one in teacher.vocabulary")
    }
    return saved.vocabulary
  }

  /// Reads the weights in their placement, and computes the checksum if that was left to this call. Every rank must
  /// call it.
  mutating func load(over ranks: Communicator) throws -> TeacherWeights {
    try TeacherWeights(config, placement, shardOver: shardOver, precision: precision.used, over: ranks) {
      try read(into: $0, ranges: $1)
    } then: { weights in
      guard sha256.isEmpty else { return }
      sha256 = try ranks.node().sha256(of: path) {
        weights.sharded == nil
          ? try ModelFiles.sha256(path, readInto: weights.model) : try SHA256.ofFile(path)
      }
      try ranks.requireSame("teacher", sha256)
    }
  }

  /// Reads the buffers and the weights into a model; if `ranges` are given, only these ranges of its arena.
  func read(into model: CLIP<Float>, ranges: [Range<Int>]?) throws {
    if let checkpoint {
      try model.read(checkpoint, ranges: ranges)
    } else {
      try ModelFiles.read(path, into: model, ranges: ranges)
    }
  }

  /// The teacher as the run's checkpoints store it.
  var saved: SavedTeacher { SavedTeacher(path: path, sha256: sha256) }

  /// A text of everything that the embeddings depend on. Ranks with the same text have the same teacher.
  var identity: String {
    get throws {
      let words = try SHA256.ofFile(vocabulary)
      return "\(sha256) \(words) \(input.image.identity) \(String(decoding: try config.json, as: UTF8.self))"
    }
  }

  /// Returns the description that a cache of this teacher's embeddings of a dataset must have.
  func cacheDescription(_ run: RunConfig, _ dataset: Dataset) throws -> CacheDescription {
    CacheDescription(
      teacher: CacheDescription.Teacher(
        path: path, sha256: sha256, config: String(decoding: try config.json, as: UTF8.self),
        vocabularySHA256: try SHA256.ofFile(vocabulary), width: config.embedding,
        precision: precision.used == .fp32 ? nil : precision.used.rawValue),
      dataset: CacheDescription.Source(dataset), seed: run.data.seed, views: run.image.isFixed ? 1 : run.data.views,
      image: input.image.encoding)
  }
}
