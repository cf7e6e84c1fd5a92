import Dist
import Foundation
import Model
import Tensor

/// A model as others keep it: a file of weights and what says its sizes, before the weights are read.
struct ForeignModel {
  /// The file of weights.
  let path: String
  let file: any NamedTensors
  let form: WeightsForm
  let config: CLIPConfig
  let preprocessing: ImageOptions
  /// What says the sizes: a file's path, or a preset's name.
  let source: String

  /// Files that are looked for in a folder, in this order.
  private static let usual = [
    ModelFiles.weights, "open_clip_pytorch_model.bin", HuggingFaceFiles.weights,
    HuggingFaceFiles.weights + ".index.json", "pytorch_model.bin",
  ]

  /// Opens a file of weights, or a folder that has one by its usual name.
  ///
  /// - Parameters:
  ///   - config: the JSON file with its sizes, open_clip's or Hugging Face's; nil: the one beside it.
  ///   - preset: the name of its sizes, where no file says them.
  init(_ input: String, config: String? = nil, preset: String? = nil) throws {
    path = try Self.weights(input)
    file = try WeightsFile.open(path)
    form = WeightsForm(of: file)
    let beside = file.metadata[ModelFiles.configKey] == nil ? Self.config(beside: path, form) : path
    var found: CLIPConfig
    if let preset {
      found = try CLIPConfig(preset: preset)
      source = "preset \(preset)"
    } else if let config = config ?? beside {
      found = try ModelFiles.sizes(config)
      source = config
    } else {
      throw ModelFileError(
        path: path, exitCode: 74,
        reason:
          "has no \(Self.configName(form)) beside it, so the model's sizes are not known; name its JSON file with --config, or a preset with --preset"
      )
    }
    if found.text.vocabularySize == 0, let words = Self.words(in: file, form) { found.text.vocabularySize = words }
    if preset != nil, let beside { try Self.check(found, against: beside, path) }
    self.config = found
    var image = ImageOptions()
    image.size = found.vision.imageSize
    let described = preset == nil ? config ?? beside : beside
    preprocessing = try described.map { try ModelFiles.preprocessing($0, size: image.size) } ?? image
  }

  /// Everything in which the file differs from what its config says.
  func mismatches() throws -> [String] {
    try WeightsMatch(form, config, CLIP<Float>.layout(config)).mismatches(in: file)
  }

  /// Reads the weights.
  func load() throws -> CLIP<Float> {
    let model = CLIP<Float>(config, frozen: true)
    try ModelFiles.read(path, into: model)
    return model
  }

  /// The file of weights that a path names, or that its folder has.
  static func weights(_ input: String) throws -> String {
    var isFolder: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: input, isDirectory: &isFolder) else {
      throw ModelFileError(path: input, exitCode: 74, reason: "there is no such file or folder")
    }
    guard isFolder.boolValue else { return input }
    let folder = URL(filePath: input)
    for name in usual {
      let path = folder.appending(path: name).relativePath
      if FileManager.default.fileExists(atPath: path) { return path }
    }
    throw ModelFileError(
      path: input, exitCode: 74,
      reason: "holds none of \(usual.joined(separator: ", ")); name the file of weights itself")
  }

  private static func configName(_ form: WeightsForm) -> String {
    form == .openCLIP ? ModelFiles.config : HuggingFaceFiles.config
  }

  /// The file beside the weights that says their sizes, if it is there.
  static func config(beside path: String, _ form: WeightsForm) -> String? {
    let file = URL(filePath: path).deletingLastPathComponent().appending(path: configName(form)).relativePath
    return FileManager.default.fileExists(atPath: file) ? file : nil
  }

  /// The rows of the file's table of tokens.
  private static func words(in file: any NamedTensors, _ form: WeightsForm) -> Int? {
    let name = "token_embedding.weight"
    let theirs = form == .huggingFace ? HuggingFaceNames.place(of: name)?.names.first ?? name : name
    guard file.contains(theirs), let shape = try? file.shape(of: theirs), shape.rank == 2 else { return nil }
    return shape[0]
  }

  /// A preset must be what the file beside the weights says; above all the activation, which no shape tells.
  private static func check(_ preset: CLIPConfig, against beside: String, _ path: String) throws {
    var other = try ModelFiles.sizes(beside)
    if other.text.vocabularySize == 0 { other.text.vocabularySize = preset.text.vocabularySize }
    guard other == preset else {
      let what =
        other.activation == preset.activation
        ? "other sizes" : "the activation \(other.activation.rawValue), and not \(preset.activation.rawValue)"
      throw ModelFileError(
        path: path, exitCode: 65,
        reason: "\(beside) says \(what); leave --preset out, or name the right file with --config")
    }
  }
}

extension CLIP<Float> {
  /// The model for pictures of another size: the positions of its vision transformer are resized, all else is as it
  /// was.
  func resized(to imageSize: Int) throws -> CLIP<Float> {
    guard config.vision.stages == nil else {
      throw ModelError(
        description: "the model's vision tower is a ResNet, and only a transformer's positions can be resized; leave "
          + "--image-size out")
    }
    var config = config
    config.vision.imageSize = imageSize
    do {
      try config.validate()
    } catch { throw ModelError(description: "--image-size \(imageSize): \(error)") }
    let result = CLIP<Float>(config, frozen: true)
    for (old, new) in zip(entries, result.entries) {
      let value = parameters.value(of: old)
      let wanted = result.parameters.value(of: new)
      copy(
        old.name == "visual.positional_embedding" ? resizedPositions(value, to: config.vision.grid) : value,
        into: wanted)
    }
    return result
  }
}
