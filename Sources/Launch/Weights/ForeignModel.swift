import Dist
import Foundation
import Model
import Tensor

/// A model in another program's files, before its weights are read: the file of weights, and the model's sizes.
struct ForeignModel {
  let path: String
  let file: any NamedTensors
  let form: WeightsForm
  let config: CLIPConfig
  let preprocessing: ImageOptions
  /// The model's `preprocess_cfg` as its file has it, to be written as it is; nil if there is none.
  let preprocessConfig: [String: Any]?
  /// The source of the sizes: a file's path, or a preset's name.
  let source: String

  /// Opens a file of weights, or a folder that holds one under a usual name. The sizes are those of the JSON file
  /// `config`, open_clip's or Hugging Face's, or of the one beside the weights, or else of a preset. Throws a
  /// `UserError` if weights or sizes are not found, or if the preset contradicts the file beside the weights.
  init(_ input: String, config: String? = nil, preset: String? = nil) throws {
    path = try Self.weights(input)
    file = try WeightsFile.open(path)
    form = WeightsForm(of: file)
    let beside = Self.config(of: file)
    var found: CLIPConfig
    if let preset {
      found = try CLIPConfig(preset: preset)
      source = "preset \(preset)"
    } else if let config = config ?? beside {
      found = try ModelFiles.sizes(config)
      source = config
    } else {
      throw UserError(
        path,
        "has no \(Self.configName(form)) beside it, so the model's sizes are not known; name its JSON file with "
          + "--config, or a preset with --preset", status: .inputOutput)
    }
    if found.text.vocabularySize == 0, let words = Self.words(in: file) {
      found.text.vocabularySize = words
      try ModelFiles.naming(path, found.validate)
    }
    if preset != nil {
      try Self.check(found, of: path, advice: "leave --preset out, or name the right file with --config")
    }
    // The weights decide, because not every config names a bias that is in the file.
    if found.initialLogitBias == nil, file.contains(CLIPConfig.logitBias) {
      found.initialLogitBias = CLIPConfig.usualLogitBias
    }
    self.config = found
    let size = found.vision.imageSize
    let described = preset == nil ? config ?? beside : beside
    preprocessing =
      try described.map { try ModelFiles.preprocessing($0, size: size) }
      ?? ImageOptions(preprocessConfig: [:], size: size)
    preprocessConfig = try described.flatMap(ModelFiles.preprocessConfig)
  }

  func load() throws -> CLIP<Float> { try ModelFiles.model(config, from: path) }

  /// Returns the file of weights that a path names, or that the folder at the path holds.
  static func weights(_ input: String) throws -> String {
    guard let isFolder = UserFiles.isFolder(input) else {
      throw UserError(
        input, "there is no such file or folder" + BestFigure.advice(where: input), status: .inputOutput)
    }
    guard isFolder else { return input }
    if let path = WeightsFile.first(in: input) { return path }
    throw UserError(
      input, "holds none of \(WeightsFile.usual.joined(separator: ", ")); name the file of weights itself",
      status: .inputOutput)
  }

  static func configName(_ form: WeightsForm) -> String {
    form == .openCLIP ? ModelFiles.config : HuggingFaceFiles.config
  }

  /// Returns the file that holds the sizes of weights: the weights themselves if their metadata has them, otherwise the
  /// JSON file beside them; nil if there is none.
  static func config(of file: any NamedTensors) -> String? {
    if file.metadata[ModelFiles.configKey] != nil { return file.path }
    let name = configName(WeightsForm(of: file))
    let beside = URL(filePath: file.path).deletingLastPathComponent().appending(path: name).relativePath
    return FileManager.default.fileExists(atPath: beside) ? beside : nil
  }

  /// Returns the number of tokens in the file's token embedding; nil if it has none.
  static func words(in file: any NamedTensors) -> Int? {
    let name = CLIPConfig.tokenEmbedding
    let theirs = WeightsForm(of: file) == .huggingFace ? HuggingFaceNames.place(of: name)?.names.first ?? name : name
    guard file.contains(theirs), let shape = try? file.shape(of: theirs), shape.rank == 2 else { return nil }
    return shape[0]
  }

  /// Throws a `UserError` if a preset differs from the sizes in the file beside the weights, if there is one: above all
  /// in the activation, which no tensor's shape shows.
  static func check(_ preset: CLIPConfig, of path: String, advice: String) throws {
    let beside = ModelFiles.description(of: path)
    guard FileManager.default.fileExists(atPath: beside) else { return }
    var preset = preset
    var other = try ModelFiles.sizes(beside)
    // A size of 0 stands for that of any vocabulary.
    if min(preset.text.vocabularySize, other.text.vocabularySize) == 0 {
      (preset.text.vocabularySize, other.text.vocabularySize) = (0, 0)
    }
    other.initialLogitBias = preset.initialLogitBias
    guard other == preset else {
      let what =
        other.activation == preset.activation
        ? "other sizes" : "the activation \(other.activation.rawValue), and not \(preset.activation.rawValue)"
      throw UserError(path, "\(beside) says \(what); \(advice)")
    }
  }
}

extension CLIP<Float> {
  /// Returns the model for images of another size in pixels: the positions of its vision transformer are resized, and
  /// all other parameters are copied. Throws a `UserError` for a ResNet, and for a size that the model cannot have.
  func resized(to imageSize: Int) throws -> CLIP<Float> {
    guard config.vision.stages == nil else {
      throw UserError(
        nil,
        "the model's vision tower is a ResNet, and only a transformer's positions can be resized; leave --image-size "
          + "out")
    }
    var config = config
    config.vision.imageSize = imageSize
    do { try config.validate() } catch { throw UserError("--image-size \(imageSize)", "\(error)") }
    try config.requireMemory("for images of \(imageSize) px")
    let result = CLIP<Float>(config, frozen: true)
    for (old, new) in zip(entries, result.entries) {
      let value = parameters.value(of: old)
      let isResized = old.name == "visual.positional_embedding"
      copy(isResized ? resizedPositions(value, to: config.vision.grid) : value, into: result.parameters.value(of: new))
    }
    return result
  }
}
