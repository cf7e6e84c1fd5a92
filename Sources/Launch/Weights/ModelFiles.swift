import Dist
import Foundation
import Model
import Tensor

/// The files of open_clip's models in one folder: `open_clip_model.safetensors` and `open_clip_config.json`.
enum ModelFiles {
  static let weights = "open_clip_model.safetensors"
  static let config = "open_clip_config.json"

  static func write<S: Scalar>(_ model: CLIP<S>, preprocessing: ImageOptions, to folder: URL) throws {
    let entries = model.entries.map { entry in
      let value = model.parameters.value(of: entry)
      // Floats are written from the model's own memory, without a copy.
      return SafetensorsEntry(entry.name, value as? Tensor<Float> ?? Tensor(entry.shape, value.array.map { Float($0) }))
    }
    let buffers = model.parameters.buffers.map { buffer in
      let values = model.parameters.value(of: buffer).array
      return buffer.isCount
        ? SafetensorsEntry(buffer.name, integers: values.map { Int($0) }, shape: buffer.shape)
        : SafetensorsEntry(buffer.name, Tensor<Float>(buffer.shape, values.map { Float($0) }))
    }
    try SafetensorsFile.write(
      entries + buffers, metadata: metadata(model.config),
      to: folder.appending(path: weights).path(percentEncoded: false))
    try write(json(model.config, preprocessing: preprocessing), to: folder.appending(path: config))
  }

  static func json(_ config: CLIPConfig, preprocessing: ImageOptions) throws -> Data {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    var object = [
      "model_cfg": try JSONSerialization.jsonObject(with: config.json),
      "preprocess_cfg": try JSONSerialization.jsonObject(with: encoder.encode(Preprocessing(preprocessing))),
    ]
    if config.vision.blocks != nil || config.text.blocks != nil {
      object["note"] = "a pruned model: its blocks have sizes of their own (blocks), which open_clip cannot build"
    }
    return try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys])
  }

  /// Returns the SHA-256 of a file whose weights were read into a model. Tensors that the file stores as the model does
  /// are hashed from the model's memory and not read again.
  static func sha256(_ path: String, readInto model: CLIP<Float>) throws -> String {
    guard let file = try WeightsFile.open(path) as? SafetensorsFile, WeightsForm(of: file) == .openCLIP else {
      return try SHA256.ofFile(path)
    }
    let entries = Dictionary(uniqueKeysWithValues: model.entries.map { ($0.name, $0) })
    return try file.sha256 { entries[$0].map { model.parameters.value(of: $0) } }
  }

  /// Returns the metadata of our safetensors files: the activation, and the format that other readers expect.
  static func metadata(_ config: CLIPConfig) -> [String: String] {
    ["format": "pt", WeightsMatch.activationKey: config.activation.rawValue]
  }

  static func write(_ data: Data, to file: URL) throws {
    try naming(file.relativePath) { try data.write(to: file, options: .atomic) }
  }

  /// Runs what reads or writes a file, which an error then names, and what precedes the error in its message.
  static func naming<R>(_ path: String, _ prefix: String = "", _ body: () throws -> R) throws -> R {
    do { return try body() } catch {
      switch error {
      case is ConfigError, is ImageError, is DecodingError: throw UserError(path, "\(prefix)\(error)")
      case is any ExitCoded: throw error
      default: throw UserError(path, error.systemReason, status: .inputOutput)
      }
    }
  }

  /// The metadata key under which a file of weights may hold the text of `open_clip_config.json`.
  static let configKey = "open_clip_config"

  /// Returns the file that holds the sizes of weights in open_clip's form: the weights themselves if their metadata has
  /// them, otherwise the path of the JSON file beside them, which need not exist.
  static func description(of weights: String) -> String {
    let mayTell = [".safetensors"] + HDF5Weights.endings
    if mayTell.contains(where: weights.hasSuffix), (try? WeightsFile.open(weights))?.metadata[configKey] != nil {
      return weights
    }
    return URL(filePath: weights).deletingLastPathComponent().appending(path: config).relativePath
  }

  /// Returns the contents of a JSON file, or the JSON in the metadata of a file of weights.
  private static func json(in path: String) throws -> Data {
    guard WeightsFile.isOne(path) else { return try Data(contentsOf: URL(filePath: path)) }
    guard let text = try WeightsFile.open(path).metadata[configKey] else {
      throw UserError(path, "does not say its sizes; name the JSON file that does")
    }
    return Data(text.utf8)
  }

  /// Reads a model's sizes from a JSON file, open_clip's or Hugging Face's, or from the metadata of a file of weights.
  static func sizes(_ path: String) throws -> CLIPConfig {
    try naming(path) {
      let json = try json(in: path)
      return try CLIPConfig.isHuggingFace(json: json) ? CLIPConfig(huggingFace: json) : CLIPConfig(json: json)
    }
  }

  /// Reads how a model's images are prepared, for images of `size` × `size` pixels. Values that its JSON does not give
  /// are CLIP's.
  static func preprocessing(_ path: String, size: Int) throws -> ImageOptions {
    try naming(path, "preprocess_cfg: ") {
      let json = try json(in: path)
      var options = ImageOptions().sized(size)
      if CLIPConfig.isHuggingFace(json: json) {
        let (mean, std) = try HuggingFaceFiles.normalisation(beside: path)
        options.mean = mean ?? options.mean
        options.std = std ?? options.std
      } else {
        try JSONDecoder.snakeCase.decode(ConfigFile.self, from: json).preprocessCfg?.apply(to: &options)
      }
      try options.validate()
      return options
    }
  }

  private struct ConfigFile: Decodable { var preprocessCfg: Preprocessing? }

  /// Reads weights and buffers by name into a model, from a file in open_clip's form or Hugging Face's. With `ranges`,
  /// only these parts of the model's arena are read and written, and all buffers, which are small. If only one of model
  /// and file has a logit bias, the model's keeps its value and the file's is not read. Throws a `UserError` that lists
  /// every missing, unexpected and misshapen tensor.
  static func read<S: Scalar>(_ path: String, into model: CLIP<S>, ranges: [Range<Int>]? = nil) throws {
    let file = try WeightsFile.open(path)
    let (store, match) = (model.parameters, WeightsMatch(WeightsForm(of: file), model.config, model.parameters))
    let problems = try match.mismatches(in: file)
    guard problems.isEmpty else {
      throw UserError(path, "does not fit the model:\n  " + problems.joined(separator: "\n  "))
    }
    for entry in model.entries where entry.name != CLIPConfig.logitBias || file.contains(entry.name) {
      for range in ranges ?? [entry.range] {
        let shared = range.clamped(to: entry.range)
        guard !shared.isEmpty else { continue }
        let elements = shared.lowerBound - entry.offset..<shared.upperBound - entry.offset
        try match.read(entry.name, entry.shape, elements, from: file, into: store.values.slice(shared))
      }
    }
    for buffer in store.buffers {
      if buffer.isCount {
        store.value(of: buffer)[0] = Double(try file.integers(buffer.name)[0])
      } else {
        try file.read(buffer.name, into: store.value(of: buffer))
      }
    }
  }
}

extension JSONDecoder {
  /// A decoder of files whose keys have underscores.
  static var snakeCase: JSONDecoder {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return decoder
  }
}

/// open_clip's `preprocess_cfg`. The keys `alpha` and `exif` are ours; open_clip ignores keys that it does not know.
private struct Preprocessing: Codable {
  var mean, std: [Float]?
  var interpolation: String? = "bicubic"
  var resizeMode: String? = "shortest"
  var alpha: AlphaHandling?
  var exif: ExifHandling?

  init(_ options: ImageOptions) { (mean, std, alpha, exif) = (options.mean, options.std, options.alpha, options.exif) }

  func apply(to options: inout ImageOptions) {
    options.mean = mean ?? options.mean
    options.std = std ?? options.std
    options.alpha = alpha ?? options.alpha
    options.exif = exif ?? options.exif
  }
}
