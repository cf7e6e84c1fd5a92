import Dist
import Foundation
import Model
import Tensor

/// A model as open_clip keeps it: `open_clip_model.safetensors` and `open_clip_config.json` in one folder.
enum ModelFiles {
  static let weights = "open_clip_model.safetensors"
  static let config = "open_clip_config.json"

  /// Writes both files into a folder that is there.
  static func write<S: Scalar>(_ model: CLIP<S>, preprocessing: ImageOptions, to folder: URL) throws {
    let entries = model.entries.map { entry in
      let value = model.parameters.value(of: entry)
      // Floats are written from where they are.
      return SafetensorsEntry(
        entry.name, value as? Tensor<Float> ?? Tensor<Float>(entry.shape, value.array.map { Float($0) }))
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

  /// The text of `open_clip_config.json`.
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

  /// SHA-256 of a file of weights that were read into a model: those that the file has as the model has them are not
  /// read again.
  static func sha256(_ path: String, readInto model: CLIP<Float>) throws -> String {
    guard let file = try WeightsFile.open(path) as? SafetensorsFile, WeightsForm(of: file) == .openCLIP else {
      return try SavedRun.sha256(of: path)
    }
    let entries = Dictionary(uniqueKeysWithValues: model.entries.map { ($0.name, $0) })
    return try file.sha256 { entries[$0].map { model.parameters.value(of: $0) } }
  }

  /// What our safetensors files say of themselves. The format is what other readers want to be told.
  static func metadata(_ config: CLIPConfig) -> [String: String] {
    ["format": "pt", WeightsMatch.activationKey: config.activation.rawValue]
  }

  /// Writes a file as a whole.
  static func write(_ data: Data, to file: URL) throws {
    do {
      try data.write(to: file, options: .atomic)
    } catch {
      throw ModelFileError(
        path: file.relativePath, exitCode: 74, reason: (error as NSError).localizedFailureReason ?? "\(error)")
    }
  }

  /// Under which a file of weights has the text of `open_clip_config.json`, if it says its sizes itself.
  static let configKey = "open_clip_config"

  /// What says the sizes of a file of weights in open_clip's form: the file itself, or else the JSON beside it, be it
  /// there or not.
  static func description(of weights: String) -> String {
    let mayTell = [".safetensors"] + HDF5Weights.endings
    if mayTell.contains(where: weights.hasSuffix), (try? WeightsFile.open(weights))?.metadata[configKey] != nil {
      return weights
    }
    return URL(filePath: weights).deletingLastPathComponent().appending(path: config).relativePath
  }

  /// The JSON in a file, or in what a file of weights says of itself.
  private static func json(in path: String) throws -> Data {
    guard WeightsFile.isOne(path) else { return try Data(contentsOf: URL(filePath: path)) }
    guard let text = try WeightsFile.open(path).metadata[configKey] else {
      throw ModelFileError(path: path, exitCode: 65, reason: "does not say its sizes; name the JSON file that does")
    }
    return Data(text.utf8)
  }

  /// The sizes of a model, from its JSON file, open_clip's or Hugging Face's, or from a file of weights that says them.
  static func sizes(_ path: String) throws -> CLIPConfig {
    do {
      let json = try json(in: path)
      return try CLIPConfig.isHuggingFace(json: json) ? CLIPConfig(huggingFace: json) : CLIPConfig(json: json)
    } catch let error as ConfigError {
      throw ModelFileError(path: path, exitCode: 65, reason: "\(error)")
    } catch let error as any ExitCoded {
      throw error
    } catch {
      throw ModelFileError(path: path, exitCode: 74, reason: (error as NSError).localizedFailureReason ?? "\(error)")
    }
  }

  /// How the pictures of a model are prepared, for pictures of n × n: what its JSON says, CLIP's way where it does not.
  static func preprocessing(_ path: String, size: Int) throws -> ImageOptions {
    var options = ImageOptions()
    options.size = size
    do {
      let json = try json(in: path)
      if CLIPConfig.isHuggingFace(json: json) {
        let (mean, std) = try HuggingFaceFiles.normalisation(beside: path)
        options.mean = mean ?? options.mean
        options.std = std ?? options.std
      } else {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let file = try decoder.decode(ConfigFile.self, from: json)
        file.preprocessCfg?.apply(to: &options)
      }
      try options.validate()
      return options
    } catch let error as ImageError {
      throw ModelFileError(path: path, exitCode: 65, reason: "preprocess_cfg: \(error)")
    } catch let error as any ExitCoded {
      throw error
    } catch let error as DecodingError {
      throw ModelFileError(path: path, exitCode: 65, reason: "preprocess_cfg: \(error)")
    } catch {
      throw ModelFileError(path: path, exitCode: 74, reason: (error as NSError).localizedFailureReason ?? "\(error)")
    }
  }

  private struct ConfigFile: Decodable {
    var preprocessCfg: Preprocessing?
  }

  /// Reads weights and buffers by name into a model, from a file in open_clip's form or Hugging Face's. Every missing,
  /// unexpected and misshapen one is listed. With `ranges`, only these parts of the model's arena are read and written,
  /// beside the buffers, which are small.
  static func read<S: Scalar>(_ path: String, into model: CLIP<S>, ranges: [Range<Int>]? = nil) throws {
    let file = try WeightsFile.open(path)
    let (store, match) = (model.parameters, WeightsMatch(WeightsForm(of: file), model.config, model.parameters))
    let problems = try match.mismatches(in: file)
    guard problems.isEmpty else {
      throw ModelFileError(
        path: path, exitCode: 65, reason: "does not fit the model:\n  " + problems.joined(separator: "\n  "))
    }
    for entry in model.entries {
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

/// open_clip's `preprocess_cfg`. `alpha` and `exif` are ours: open_clip passes over keys that it does not know.
private struct Preprocessing: Codable {
  var mean: [Float]?
  var std: [Float]?
  var interpolation: String? = "bicubic"
  var resizeMode: String? = "shortest"
  var alpha: AlphaHandling?
  var exif: ExifHandling?

  init(_ options: ImageOptions) {
    mean = options.mean
    std = options.std
    alpha = options.alpha
    exif = options.exif
  }

  func apply(to options: inout ImageOptions) {
    options.mean = mean ?? options.mean
    options.std = std ?? options.std
    options.alpha = alpha ?? options.alpha
    options.exif = exif ?? options.exif
  }
}

/// A model's file that cannot be used.
struct ModelFileError: ExitCoded, CustomStringConvertible {
  let path: String
  let exitCode: Int32
  let reason: String

  var description: String { "\(path): \(reason)" }
}
