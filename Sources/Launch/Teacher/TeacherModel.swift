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
      config, settings.placement, shardOver: settings.shardOver, precision: precision.used, over: ranks
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

/// A teacher's weights in the placement that the run asks for. They are never freed.
struct TeacherWeights {
  let model: CLIP<Float>
  let sharded: ShardedWeights?
  let shared: Int
  private(set) var text: String

  /// Reads the weights, over `shardOver` ranks (nil: all) if they are sharded. `read` fills the model's buffers and
  /// these ranges of its arena (nil: all); `then` may read more for the weights. Every rank must call it.
  init(
    _ config: CLIPConfig, _ placement: TeacherPlacement, shardOver: Int? = nil,
    precision: ComputePrecision = .fp32, over ranks: Communicator,
    read: (CLIP<Float>, _ ranges: [Range<Int>]?) throws -> Void, then: (TeacherWeights) throws -> Void = { _ in }
  ) throws {
    let node = try ranks.node()
    let heldBefore = try Self.memory(of: node)
    let readBefore = ProcessMemory.read
    let count = CLIP<Float>.layout(config).count
    func own() throws -> CLIP<Float> {
      let model = CLIP<Float>(config, frozen: true, precision: precision)
      try read(model, nil)
      return model
    }
    let holders: String
    var shared = 0
    var sharded: ShardedWeights?
    switch placement {
    case .node where node.size > 1:
      let window = try SharedWindow<Float>(count: count, over: node)
      shared = count * MemoryLayout<Float>.stride
      model = CLIP(config, frozen: true, values: window.values, precision: precision)
      try read(model, [BucketPlan.pieces(of: 0..<count, ranks: node.size)[node.rank]])
      try window.publish()
      holders = "one copy for the \(node.size) ranks of a node, each of which loaded 1/\(node.size)"
    case .node:
      model = try own()
      holders = "one copy for the only rank of a node"
    case .sharded:
      precondition(precision == .fp32, "sharded weights are not rounded")
      let group = try ranks.split(group: ranks.rank / (shardOver ?? ranks.size))
      let weights = try ShardedWeights(config, over: group, read: read)
      (model, sharded) = (weights.model, weights)
      let more = "two more blocks in memory (\(Figures.bytes(weights.twoStages)))"
      holders = "over \(group.size) ranks, each of which keeps 1/\(group.size) and has \(more)"
    case .replicated:
      model = try own()
      holders = "a copy on each of \(Figures.count(ranks.size, "rank"))"
    }
    (self.sharded, self.shared) = (sharded, shared)
    // Only weights that stay in memory can keep their rounded form.
    model.parameters.holdsValues = sharded == nil
    let whole = Figures.bytes(count * MemoryLayout<Float>.stride)
    let measured: String
    if let sharded {
      measured = "\(Figures.bytes(try ranks.allReduce(sharded.peak, .maximum))) a rank at most"
    } else {
      let growth = try ranks.allReduce(Self.memory(of: node) - heldBefore, .maximum)
      measured = "\(Figures.bytes(max(Int(growth * 1_048_576), 0))) a node"
    }
    text = "teacher's weights, \(placement.rawValue): \(holders); all are \(whole), measured \(measured)"
    try then(self)
    let bytes = try ranks.allReduce(node.allReduce(ProcessMemory.read - readBefore), .maximum)
    // Weights that were initialized at random were not read at all.
    if bytes > Double(count) { text += ", read \(Figures.bytes(Int(bytes))) a node" }
  }

  /// Returns the MiB that all ranks of a node hold. All of them must call it, and none may allocate meanwhile.
  private static func memory(of node: Communicator) throws -> Double {
    try node.barrier()
    return try node.allReduce(ProcessMemory.share)
  }
}

/// A model whose weights are sharded over the K ranks of a group. Each rank keeps 1/K of every stage of the towers and
/// of the rows of the token embedding. A stage is gathered while the previous one computes, and is discarded after use:
/// the arena has addresses for all weights, but only this rank's parts and two stages take memory.
final class ShardedWeights {
  let model: CLIP<Float>
  /// The seconds spent waiting for weights in all passes except the trial.
  private(set) var waited = 0.0
  private(set) var passes = 0
  /// The most bytes of weights that this rank had in memory during the trial.
  private(set) var peak = 0
  let group: Communicator
  private let arena: ReservedArena<Float>
  private let gather: GatherAhead<Float>
  /// The stages of the vision tower, then those of the text tower.
  private let stages: [[Range<Int>]]
  private var failure: (any Error)?

  /// Reads this rank's parts by `read`, and runs a pass without a forward as a trial. All ranks must call it.
  init(
    _ config: CLIPConfig, over group: Communicator, read: (CLIP<Float>, _ ranges: [Range<Int>]) throws -> Void
  ) throws {
    self.group = group
    arena = ReservedArena(count: CLIP<Float>.layout(config).count)
    model = CLIP(config, frozen: true, values: arena.values)
    stages = CLIP<Float>.stages(config)
    gather = GatherAhead(arena.values, stages: stages, over: group)
    let tokenEmbedding = model.text.tokenEmbedding
    // Every rank keeps the logit scale, which is one number.
    try read(
      model,
      stages.joined().map { GatherAhead<Float>.parts(of: $0, ranks: group.size)[group.rank] }
        + [Self.rows(ownTokens, of: tokenEmbedding), model.logitScale.extent])
    let visualCount = model.visual.stages.extents.count
    model.visual.stages.willRun = { [unowned self] in willRun($0) }
    model.text.stages.willRun = { [unowned self] in willRun(visualCount + $0) }
    try pass([])
    (waited, passes) = (0, 0)
  }

  var twoStages: Int {
    let sizes = stages.map { $0.reduce(0) { $0 + $1.count } }.sorted()
    return sizes.suffix(2).reduce(0, +) * MemoryLayout<Float>.stride
  }

  /// Returns the passes and the time spent waiting, for the log. Every rank must call it.
  func text(over ranks: Communicator) throws -> String {
    let seconds = try ranks.allReduce(waited, .maximum)
    let each = passes == 0 ? 0 : seconds / Double(passes)
    return "teacher's weights: gathered \(passes) times, waited \(Figures.fixed(seconds, 2)) s for them on the rank "
      + "that waited most (\(Figures.significant(1000 * each, 3)) ms each time)"
  }

  /// Runs `body`, one forward of both towers, vision first, over `captions`. All ranks of the group must call it; a
  /// rank that has nothing to embed gives no body.
  func pass(_ captions: [[Int32]], _ body: (() -> Void)? = nil) throws {
    try clock(&waited) { try gatherTokenRows(captions) }
    gather.start(0)
    if let body { body() } else { stages.indices.forEach(willRun) }
    release(stages.count - 1)
    for tokens in [0..<ownTokens.lowerBound, ownTokens.upperBound..<model.config.text.vocabularySize] {
      arena.discard(Self.rows(tokens, of: model.text.tokenEmbedding))
    }
    passes += 1
    if let failure { throw failure }
  }

  /// Waits for a stage, and starts to gather the next. A forward cannot throw, so an error is kept to the pass's end.
  private func willRun(_ stage: Int) {
    clock(&waited) { do { try gather.wait() } catch { failure = failure ?? error } }
    // Only the trial is measured, because the system takes long to count pages.
    if passes == 0 { peak = max(peak, arena.residentBytes) }
    if stage > 0 { release(stage - 1) }
    if stage + 1 < stages.count { gather.start(stage + 1) }
  }

  private func release(_ stage: Int) {
    for range in stages[stage] {
      let own = GatherAhead<Float>.parts(of: range, ranks: group.size)[group.rank]
      arena.discard(range.lowerBound..<own.lowerBound)
      arena.discard(own.upperBound..<range.upperBound)
    }
  }

  private var ownTokens: Range<Int> { group.slice(of: model.config.text.vocabularySize) }

  private static func rows(_ tokens: Range<Int>, of tokenEmbedding: Parameter<Float>) -> Range<Int> {
    let width = tokenEmbedding.shape[1]
    let start = tokenEmbedding.extent.lowerBound
    return start + tokens.lowerBound * width..<start + tokens.upperBound * width
  }

  /// Gathers the rows of all tokens of any rank: the whole token embedding would be larger than a stage.
  private func gatherTokenRows(_ captions: [[Int32]]) throws {
    let own = Set(captions.joined()).sorted()
    let bytes = own.flatMap { token in (0..<4).map { UInt8(truncatingIfNeeded: token >> (8 * $0)) } }
    var wanted: Set<Int> = []
    for list in try group.allGather(bytes) {
      for at in stride(from: 0, to: list.count, by: 4) {
        wanted.insert((0..<4).reduce(0) { $0 | Int(list[at + $1]) << (8 * $1) })
      }
    }
    let tokens = wanted.sorted()
    guard !tokens.isEmpty else { return }
    let tokenEmbedding = model.text.tokenEmbedding.value
    let packed = Tensor<Float>(Shape(tokens.count, tokenEmbedding.columns))
    // The rows of `packed` that each rank keeps.
    let shares = group.slices(of: tokenEmbedding.rows).map { share in
      tokens.count(where: { $0 < share.lowerBound })..<tokens.count(where: { $0 < share.upperBound })
    }
    for row in shares[group.rank] {
      copy(tokenEmbedding.rows(tokens[row]..<tokens[row] + 1), into: packed.rows(row..<row + 1))
    }
    try group.allGather(
      partsOf: packed,
      ranges: shares.map { $0.lowerBound * tokenEmbedding.columns..<$0.upperBound * tokenEmbedding.columns })
    for (row, token) in tokens.enumerated() where !shares[group.rank].contains(row) {
      copy(packed.rows(row..<row + 1), into: tokenEmbedding.rows(token..<token + 1))
    }
  }
}
