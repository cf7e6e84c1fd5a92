import Dist
import Foundation
import Model
import Tensor

/// A run's teacher before its weights are read: its sizes, and its preparation of images and captions.
struct TeacherModel {
  enum ChecksumTime { case now, whenRead }

  private let settings: TeacherConfig
  /// The checksum of a safetensors file, empty until it is read, or of a checkpoint's manifest, which has all others.
  private(set) var sha256: String
  let config: CLIPConfig
  private(set) var input: InputOptions
  let vocabulary: String
  let precision: ProductPrecision
  private let checkpoint: Checkpoint?
  var path: String { settings.model }
  var microBatchSize: Int? { settings.microBatchSize }
  /// The folder of its cache, if it has one.
  var cache: String? { settings.cache?.path }

  /// Describes the run's teacher; nil if no term uses one, or if only its embeddings are known. If there are `ranks`,
  /// all must call it. With `whenRead`, a file's checksum is left to `load(over:)`, which reads the file anyway.
  init?(_ run: RunConfig, over ranks: Communicator? = nil, checksum time: ChecksumTime = .now) throws {
    guard var teacher = run.teacher, run.usesTeacher, !teacher.isImported else { return nil }
    let file = try WeightsFile.find(teacher.model, over: ranks)
    teacher.model = file ?? teacher.model
    settings = teacher
    let wanted = teacher.precision.used
    precision =
      try ranks.map { try .agreed(wanted, key: "teacher.precision", over: $0) } ?? ProductPrecision(used: wanted)
    let words: Vocabulary
    var image: ImageOptions
    if let file {
      checkpoint = nil
      guard FileManager.default.fileExists(atPath: file) else {
        throw UserError(file, "there is no such file; teacher.model names the weights", status: .inputOutput)
      }
      let sum = { try SHA256.ofWeights(WeightsFile.open(file)) }
      sha256 = time == .whenRead ? "" : try ranks.map { try $0.sha256(of: file, once: sum) } ?? sum()
      (config, words, vocabulary, image) = try Self.describe(teacher, run)
    } else {
      let opened = try Checkpoint.open(TrainedModel.checkpoint(teacher.model), communicator: ranks)
      let saved = try SavedRun(opened)
      checkpoint = opened
      sha256 = opened.sha256
      config = try saved.config(in: opened.folder)
      vocabulary = try Self.vocabulary(of: saved, teacher, run)
      words = try Vocabulary(contentsOf: vocabulary)
      image = saved.image
    }
    image.mean = teacher.image.mean?.map { Float($0) } ?? image.mean
    image.std = teacher.image.std?.map { Float($0) } ?? image.std
    image.alpha = teacher.image.alpha ?? image.alpha
    input = InputOptions(
      image: image.cropped(as: run.image),
      tokenizer: BytePairTokenizer(vocabulary: words, context: config.text.contextLength))
  }

  /// Describes a teacher in open_clip's form, with the vocabulary that the run names for it.
  private static func describe(
    _ teacher: TeacherConfig, _ run: RunConfig
  ) throws -> (CLIPConfig, Vocabulary, String, ImageOptions) {
    var config = try sizes(teacher)
    let image = try preprocessing(teacher, config)
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

  private static func sizes(_ teacher: TeacherConfig) throws -> CLIPConfig {
    guard let preset = teacher.preset else { return try ModelFiles.sizes(sizesFile(teacher)) }
    let config = try CLIPConfig(preset: preset)
    try ForeignModel.check(
      config, of: teacher.model, advice: "leave teacher.preset out, or name the right file in teacher.config")
    return config
  }

  /// Returns how the images of a teacher in open_clip's form are prepared. Transparency is handled as by `alpha` unless
  /// its files say it.
  private static func preprocessing(
    _ teacher: TeacherConfig, _ config: CLIPConfig, alpha: AlphaHandling = .drop
  ) throws -> ImageOptions {
    let size = config.vision.imageSize
    if teacher.preset != nil { return try ModelFiles.preprocessing(beside: teacher.model, size: size, alpha: alpha) }
    return try ModelFiles.preprocessing(sizesFile(teacher), size: size, alpha: alpha)
  }

  /// Handles transparency as the cache that was begun for one of the datasets does, if neither the run nor the files of
  /// another program's model say how: earlier releases laid such a teacher's images on white. If there are `ranks`, all
  /// must call it.
  mutating func keepAlpha(ofCacheOf datasets: [Dataset], over ranks: Communicator? = nil) throws {
    guard checkpoint == nil, settings.image.alpha == nil, let cache = settings.cache else { return }
    func begun() throws -> AlphaHandling {
      let manifest = try datasets.compactMap { try CacheManifest.read(cache.folder(of: $0)) }.first
      guard let image = manifest?.description.image else { return .drop }
      return image["alpha"].flatMap { AlphaHandling(rawValue: $0) } ?? .white
    }
    var image = input.image
    image.alpha = try Self.preprocessing(settings, config, alpha: ranks?.broadcast(begun) ?? begun()).alpha
    input = InputOptions(image: image, tokenizer: input.tokenizer)
  }

  /// Returns the same teacher with crops and colours as in `image`.
  func seeing(_ image: ImageOptions) -> TeacherModel {
    var other = self
    other.input = InputOptions(image: input.image.cropped(as: image), tokenizer: input.tokenizer)
    return other
  }

  /// Returns how earlier releases handled the transparency of another program's teacher: they laid it on white unless
  /// its files say otherwise. Returns nil for a teacher of ours. If there are `ranks`, all must call it.
  static func earlierAlpha(_ teacher: TeacherConfig, over ranks: Communicator?) throws -> AlphaHandling? {
    guard let file = try WeightsFile.find(teacher.model, over: ranks) else { return nil }
    var teacher = teacher
    teacher.model = file
    return try preprocessing(teacher, sizes(teacher), alpha: .white).alpha
  }

  private static func sizesFile(_ teacher: TeacherConfig) throws -> String {
    let file = teacher.config ?? ModelFiles.description(of: teacher.model)
    guard FileManager.default.fileExists(atPath: file) else {
      throw UserError(
        file,
        "there is no such file, so the sizes of the teacher are not known; name its JSON file in "
          + "teacher.config, or a preset in teacher.preset", status: .inputOutput)
    }
    return file
  }

  /// Returns a teacher's sizes; in open_clip's form, vocabulary and weights need not exist. Every rank must call it.
  static func sizes(_ teacher: TeacherConfig, over ranks: Communicator) throws -> CLIPConfig {
    var teacher = teacher
    if let file = try WeightsFile.find(teacher.model, over: ranks) {
      teacher.model = file
      return try sizes(teacher)
    }
    let checkpoint = try Checkpoint.open(TrainedModel.checkpoint(teacher.model), communicator: ranks)
    return try SavedRun(checkpoint).config(in: checkpoint.folder)
  }

  /// Returns the path of a file with the vocabulary that the teacher in a checkpoint was trained with.
  private static func vocabulary(of saved: SavedRun, _ teacher: TeacherConfig, _ run: RunConfig) throws -> String {
    func isRight(_ path: String) throws -> Bool { try SHA256.ofFile(path) == saved.vocabularySHA256 }
    let wanted = "the vocabulary that the teacher \(teacher.model) was trained with (\(saved.vocabulary), SHA-256 "
    if let path = teacher.vocabulary {
      guard try isRight(path) else { throw UserError(path, "is not \(wanted)\(saved.vocabularySHA256))") }
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

  /// Throws unless the sizes are those of the weights, for which nothing needs to be allocated.
  func requireFit() throws {
    try checkpoint?.require(CLIP<Float>.layout(config).entries, leaving: .objective)
    if checkpoint == nil { try ModelFiles.requireFit(config, WeightsFile.open(path)) }
  }

  /// Reads the weights in their placement, and the checksum if that is missing. Every rank must call it.
  mutating func load(over ranks: Communicator) throws -> TeacherWeights {
    try TeacherWeights(
      config, settings.placement, shardOver: settings.shardOver, precision: precision.used,
      areFilesShared: checkpoint != nil || ranks.sharing(path).size == ranks.size, over: ranks
    ) {
      try read(into: $0, ranges: $1)
    } then: { weights in
      guard sha256.isEmpty else { return }
      // If ranks of a node have files of their own, each has read its part of the node's copy from another file.
      let node = try ranks.node()
      let isRead = try weights.sharded == nil && node.sharing(path).size == node.size
      sha256 = try ranks.sha256(of: path) {
        try isRead
          ? ModelFiles.sha256(path, readInto: weights.model) : SHA256.ofWeights(WeightsFile.open(path))
      }
      try ranks.requireSameFile("teacher", path, sha256: sha256)
    }
  }

  /// Reads the buffers and the weights into a model; if `ranges` are given, only these ranges of its arena.
  func read(into model: CLIP<Float>, ranges: [Range<Int>]?) throws {
    if let checkpoint { return try model.read(checkpoint, ranges: ranges) }
    try ModelFiles.read(path, into: model, ranges: ranges)
  }

  var saved: SavedTeacher { SavedTeacher(path: path, sha256: sha256) }

  var identity: String {
    get throws {
      let words = try SHA256.ofFile(vocabulary)
      return "\(sha256) \(words) \(input.image.identity) \(String(decoding: try config.json, as: UTF8.self))"
    }
  }

  func cacheDescription(_ run: RunConfig, _ dataset: Dataset) throws -> CacheDescription {
    CacheDescription(
      teacher: CacheDescription.Teacher(
        path: path, sha256: sha256, config: String(decoding: try config.json, as: UTF8.self),
        vocabularySHA256: try SHA256.ofFile(vocabulary), width: config.embedding,
        precision: precision.used == .fp32 ? nil : precision.used.rawValue), dataset: CacheDescription.Source(dataset),
      seed: run.data.seed, views: run.image.isFixed ? 1 : run.data.views, image: input.image.encoding)
  }
}
