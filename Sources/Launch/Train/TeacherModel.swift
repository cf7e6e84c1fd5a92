import Dist
import Foundation
import Model
import Tensor

/// A run's teacher before its weights are read: what it is, and how it wants pictures and captions.
struct TeacherModel {
  let path: String
  /// Of a safetensors file its own; of a checkpoint that of its manifest, which has the checksums of all parts. Empty
  /// while it waits for the weights to be read.
  private(set) var sha256: String
  let config: CLIPConfig
  /// Its normalisation and size, the run's crops.
  let input: InputOptions
  /// Where its vocabulary was found.
  let vocabulary: String
  let micro: Int?
  let placement: TeacherPlacement
  let precision: ProductPrecision
  /// The folder from which its embeddings come, if they do.
  let cache: String?
  /// Over how many ranks the weights are spread, where they are; nil: over all.
  let spreadOver: Int?
  private let checkpoint: Checkpoint?

  /// What the run's teacher is; nil where nothing in the run looks at one. With ranks, each must call it. With
  /// `whenRead` the checksum of a file waits for `load(over:)`, which reads all of it anyway.
  init?(_ run: RunConfig, over ranks: Communicator? = nil, checksum time: ChecksumTime = .now) throws {
    guard let teacher = run.teacher, run.usesTeacher else { return nil }
    path = teacher.model
    micro = teacher.micro
    placement = teacher.placement
    let wanted = teacher.precision.used
    precision =
      try ranks.map { try .agreed(wanted, key: "teacher.precision", over: $0) } ?? ProductPrecision(used: wanted)
    cache = teacher.cache?.path
    spreadOver = teacher.spreadOver
    let words: Vocabulary
    var image: ImageOptions
    if teacher.isSafetensors {
      checkpoint = nil
      guard FileManager.default.fileExists(atPath: path) else {
        throw ModelFileError(path: path, exitCode: 74, reason: "there is no such file; teacher.model names the weights")
      }
      let sum = { try SavedRun.sha256(of: teacher.model) }
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
      sha256 = try SavedRun.sha256(of: "\(opened.folder)/\(CheckpointManifest.file)")
      config = try CLIPConfig(json: Data(saved.model.utf8))
      vocabulary = try Self.vocabulary(of: saved, teacher, run)
      words = try Vocabulary(contentsOf: vocabulary)
      image = saved.image
    }
    image.mean = teacher.image.mean?.map { Float($0) } ?? image.mean
    image.std = teacher.image.std?.map { Float($0) } ?? image.std
    input = InputOptions(
      image: image.cropped(as: run.image.options(size: config.vision.imageSize)),
      tokenizer: BytePairTokenizer(vocabulary: words, context: config.text.contextLength))
  }

  /// A teacher in open_clip's form: its sizes from a preset or a JSON file, its words from the vocabulary that the run
  /// names for it.
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
      throw ModelFileError(
        path: path, exitCode: 65,
        reason: "has \(words.size) tokens, and the teacher \(teacher.model) knows \(config.text.vocabularySize); "
          + "name the vocabulary that it was trained with in teacher.vocabulary")
    }
    return (config, words, path, image)
  }

  /// The sizes of a teacher whose weights are in open_clip's form, be they there or not.
  private static func sizes(_ teacher: TeacherConfig) throws -> CLIPConfig {
    if let preset = teacher.preset { return try CLIPConfig(preset: preset) }
    return try ModelFiles.sizes(sizesFile(teacher))
  }

  private static func sizesFile(_ teacher: TeacherConfig) throws -> String {
    let file = teacher.config ?? ModelFiles.description(of: teacher.model)
    guard FileManager.default.fileExists(atPath: file) else {
      throw ModelFileError(
        path: file, exitCode: 74,
        reason: "there is no such file, so the sizes of the teacher are not known; name its JSON file in "
          + "teacher.config, or a preset in teacher.preset")
    }
    return file
  }

  /// A teacher's sizes, without its words and, in open_clip's form, without its weights. Every rank must call it.
  static func sizes(_ teacher: TeacherConfig, over ranks: Communicator) throws -> CLIPConfig {
    if teacher.isSafetensors { return try sizes(teacher) }
    let saved = try SavedRun(Checkpoint.open(TrainedModel.checkpoint(teacher.model), communicator: ranks))
    return try CLIPConfig(json: Data(saved.model.utf8))
  }

  /// A file with the vocabulary that a teacher of ours was trained with.
  private static func vocabulary(of saved: SavedRun, _ teacher: TeacherConfig, _ run: RunConfig) throws -> String {
    func isRight(_ path: String) throws -> Bool { try SavedRun.sha256(of: path) == saved.vocabularySHA256 }
    let wanted = "the vocabulary that the teacher \(teacher.model) was trained with (\(saved.vocabulary), SHA-256 "
    if let path = teacher.vocabulary {
      guard try isRight(path) else {
        throw ModelFileError(path: path, exitCode: 65, reason: "is not \(wanted)\(saved.vocabularySHA256))")
      }
      return path
    }
    if try isRight(run.vocabulary) { return run.vocabulary }
    guard FileManager.default.fileExists(atPath: saved.vocabulary), try isRight(saved.vocabulary) else {
      throw ModelFileError(
        path: saved.vocabulary, exitCode: 65,
        reason: "is not there, or no longer \(wanted)\(saved.vocabularySHA256)); name that one in teacher.vocabulary")
    }
    return saved.vocabulary
  }

  /// Reads the weights straight to where they are to be, and with them the checksum that has waited. Every rank must
  /// call it.
  mutating func load(over ranks: Communicator) throws -> TeacherWeights {
    try TeacherWeights(config, placement, spreadOver: spreadOver, precision: precision.used, over: ranks) {
      try read(into: $0, ranges: $1)
    } then: { weights in
      guard sha256.isEmpty else { return }
      sha256 = try ranks.node().sha256(of: path) {
        weights.spread == nil
          ? try ModelFiles.sha256(path, readInto: weights.model) : try SavedRun.sha256(of: path)
      }
      try ranks.requireSame("teacher", sha256)
    }
  }

  /// Reads weights and buffers, or of the weights only these parts of the arena.
  func read(into model: CLIP<Float>, ranges: [Range<Int>]?) throws {
    if let checkpoint {
      try model.read(checkpoint, ranges: ranges)
    } else {
      try ModelFiles.read(path, into: model, ranges: ranges)
    }
  }

  /// For the checkpoints of the run.
  var saved: SavedTeacher { SavedTeacher(path: path, sha256: sha256) }

  /// Everything that its embeddings depend on: the same on every rank.
  var identity: String {
    get throws {
      let image = "\(input.image)"
      let words = try SavedRun.sha256(of: vocabulary)
      return "\(sha256) \(words) \(image) \(String(decoding: try config.json, as: UTF8.self))"
    }
  }
}

/// When the checksum of a teacher's file is computed.
enum ChecksumTime { case now, whenRead }

/// The teacher of a run, in its checkpoints.
struct SavedTeacher: Codable, Equatable {
  /// The path of the weights as the run file has it, and what is in them.
  var path: String
  var sha256: String
  /// The teachers beside it, where there are any.
  var ensemble: [SavedTeacher]?
}

extension SavedTeacher {
  /// What is in the weights of all of them.
  var weights: [String] { [sha256] + (ensemble ?? []).map(\.sha256) }

  var text: String {
    ([self] + (ensemble ?? [])).map { "\($0.path) (SHA-256 \($0.sha256))" }.joined(separator: " with ")
  }
}
