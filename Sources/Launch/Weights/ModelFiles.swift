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
      return SafetensorsEntry(entry.name, Tensor<Float>(entry.shape, value.array.map { Float($0) }))
    }
    let buffers = model.parameters.buffers.map { buffer in
      let values = model.parameters.value(of: buffer).array
      return buffer.isCount
        ? SafetensorsEntry(buffer.name, integers: values.map { Int($0) }, shape: buffer.shape)
        : SafetensorsEntry(buffer.name, Tensor<Float>(buffer.shape, values.map { Float($0) }))
    }
    try SafetensorsFile.write(
      entries + buffers, metadata: ["format": "pt"], to: folder.appending(path: weights).path(percentEncoded: false))
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    var object = [
      "model_cfg": try JSONSerialization.jsonObject(with: model.config.json),
      "preprocess_cfg": try JSONSerialization.jsonObject(with: encoder.encode(Preprocessing(preprocessing))),
    ]
    if model.config.vision.blocks != nil || model.config.text.blocks != nil {
      object["note"] = "a pruned model: its blocks have sizes of their own (blocks), which open_clip cannot build"
    }
    let json = try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys])
    do {
      try json.write(to: folder.appending(path: config), options: .atomic)
    } catch {
      throw ModelFileError(
        path: folder.appending(path: config).relativePath, exitCode: 74,
        reason: (error as NSError).localizedFailureReason ?? "\(error)")
    }
  }

  /// The sizes of a model, from its JSON file.
  static func sizes(_ path: String) throws -> CLIPConfig {
    do {
      return try CLIPConfig(json: Data(contentsOf: URL(filePath: path)))
    } catch let error as ConfigError {
      throw ModelFileError(path: path, exitCode: 65, reason: "\(error)")
    } catch {
      throw ModelFileError(path: path, exitCode: 74, reason: (error as NSError).localizedFailureReason ?? "\(error)")
    }
  }

  /// How the pictures of a model are prepared, for pictures of n × n: what its JSON says, CLIP's way where it does not.
  static func preprocessing(_ path: String, size: Int) throws -> ImageOptions {
    var options = ImageOptions()
    options.size = size
    do {
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      let file = try decoder.decode(ConfigFile.self, from: Data(contentsOf: URL(filePath: path)))
      file.preprocessCfg?.apply(to: &options)
      try options.validate()
      return options
    } catch let error as ImageError {
      throw ModelFileError(path: path, exitCode: 65, reason: "preprocess_cfg: \(error)")
    } catch let error as DecodingError {
      throw ModelFileError(path: path, exitCode: 65, reason: "preprocess_cfg: \(error)")
    } catch {
      throw ModelFileError(path: path, exitCode: 74, reason: (error as NSError).localizedFailureReason ?? "\(error)")
    }
  }

  private struct ConfigFile: Decodable {
    var preprocessCfg: Preprocessing?
  }

  /// Reads weights and buffers by name into a model. Every missing, unexpected and misshapen one is listed. With
  /// `ranges`, only these parts of the model's arena are read and written, beside the buffers, which are small.
  static func read<S: Scalar>(_ path: String, into model: CLIP<S>, ranges: [Range<Int>]? = nil) throws {
    let file = try SafetensorsFile(path)
    let (store, buffers) = (model.parameters, model.parameters.buffers)
    let expected = model.entries.map { ($0.name, $0.shape) } + buffers.map { ($0.name, $0.shape) }
    let counts = Set(buffers.filter(\.isCount).map(\.name))
    var problems: [String] = []
    for (name, shape) in expected {
      guard file.contains(name) else {
        problems.append("missing: \(name) \(shape)")
        continue
      }
      let found = try file.shape(of: name)
      // Some files have a single number in a vector.
      guard found == shape || (shape.rank == 0 && found.array == [1]) else {
        problems.append("misshapen: \(name) is \(found), the model's is \(shape)")
        continue
      }
      let type = try file.type(of: name)
      if type.isFloatingPoint == counts.contains(name) {
        problems.append("of another type: \(name) holds \(type.rawValue)")
      }
    }
    let known = Set(expected.map(\.0))
    problems += file.names.filter { !known.contains($0) }.map { "unexpected: \($0)" }
    guard problems.isEmpty else {
      throw ModelFileError(
        path: path, exitCode: 65, reason: "does not fit the model:\n  " + problems.joined(separator: "\n  "))
    }
    for entry in model.entries {
      for range in ranges ?? [entry.range] {
        let shared = range.clamped(to: entry.range)
        guard !shared.isEmpty else { continue }
        let elements = shared.lowerBound - entry.offset..<shared.upperBound - entry.offset
        try file.read(entry.name, elements: elements, into: store.values.slice(shared))
      }
    }
    for buffer in buffers {
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
