import Dist
import Foundation
import Model
import Tensor

/// The files of open_clip's models in one folder: `open_clip_model.safetensors` and `open_clip_config.json`.
enum ModelFiles {
  static let weights = "open_clip_model.safetensors"
  static let config = "open_clip_config.json"

  /// The key of `text_cfg` that names the tokenizer's repository. If it has a text, open_clip takes the tokenizer that
  /// lies in a local folder.
  static let tokenizerKey = "hf_tokenizer_name"

  /// Writes both files into an existing folder. The config has `preprocessConfig` as it is if there is one; with
  /// `hasTokenizer` it says that captions need the tokenizer in the folder.
  static func write<S: Scalar>(
    _ model: CLIP<S>, preprocessing: ImageOptions, keeping preprocessConfig: [String: Any]? = nil,
    hasTokenizer: Bool = false, to folder: URL
  ) throws {
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
    try write(
      json(model.config, preprocessing: preprocessing, keeping: preprocessConfig, hasTokenizer: hasTokenizer),
      to: folder.appending(path: config))
  }

  static func json(
    _ config: CLIPConfig, preprocessing: ImageOptions, keeping preprocessConfig: [String: Any]? = nil,
    hasTokenizer: Bool = false
  ) throws -> Data {
    var sizes = try JSONSerialization.jsonObject(with: config.json) as? [String: Any] ?? [:]
    if hasTokenizer, var text = sizes["text_cfg"] as? [String: Any] {
      text[tokenizerKey] = "OWNER/NAME"
      sizes["text_cfg"] = text
    }
    var object: [String: Any] = [
      "model_cfg": sizes, "preprocess_cfg": preprocessConfig ?? preprocessing.preprocessConfig,
    ]
    if config.isPruned {
      object["note"] = "a pruned model: its blocks have sizes of their own (blocks), which open_clip cannot build"
    }
    return try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys])
  }

  /// Returns the SHA-256 of a file whose weights were read into a model. Tensors that the file stores as the model does
  /// are hashed from the model's memory and not read again.
  static func sha256(_ path: String, readInto model: CLIP<Float>) throws -> String {
    try SHA256.ofWeights(WeightsFile.open(path), having: values(of: model))
  }

  /// Returns a function that looks up the value of a parameter by its name.
  private static func values<S: Scalar>(of model: CLIP<S>) -> (_ name: String) -> Tensor<Float>? {
    let entries = Dictionary(uniqueKeysWithValues: model.entries.map { ($0.name, $0) })
    return { name in entries[name].flatMap { model.parameters.value(of: $0) as? Tensor<Float> } }
  }

  /// Returns the metadata of our safetensors files: the activation, and the format that other readers expect.
  static func metadata(_ config: CLIPConfig) -> [String: String] {
    ["format": "pt", WeightsMatch.activationKey: config.activation.rawValue]
  }

  static func write(_ data: Data, to file: URL) throws {
    try Publish.file(file.relativePath) { output throws(FileError) in try output.append([UInt8](data)) }
  }

  /// Runs what reads or writes a file, which an error then names.
  static func naming<R>(_ path: String, _ body: () throws -> R) throws -> R {
    do { return try body() } catch {
      switch error {
      case is ConfigError, is ImageError, is DecodingError: throw UserError(path, error.explanation)
      case is any ExitCoded: throw error
      default: throw UserError(path, error.explanation, status: .inputOutput)
      }
    }
  }

  /// The metadata key under which a file of weights may hold the text of `open_clip_config.json`.
  static let configKey = "open_clip_config"

  /// Returns the file that holds the sizes of weights: the weights themselves if their metadata has them, otherwise the
  /// path of the JSON file beside them, which need not exist.
  static func description(of weights: String) -> String {
    let file = try? WeightsFile.open(weights)
    if file?.metadata[configKey] != nil { return weights }
    let name = ForeignModel.configName(file.map { WeightsForm(of: $0) } ?? .openCLIP)
    return URL(filePath: weights).deletingLastPathComponent().appending(path: name).relativePath
  }

  /// Returns the contents of a JSON file, or the JSON in the metadata of a file of weights.
  private static func json(in path: String) throws -> Data {
    guard WeightsFile.isOne(path) else { return try Data(TextFile.json(path).utf8) }
    guard let text = try WeightsFile.open(path).metadata[configKey] else {
      throw UserError(path, "its metadata have no \(configKey) with the model's sizes; name a JSON file that has them")
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
  /// are CLIP's, and transparency is handled as by `alpha`: open_clip drops it.
  static func preprocessing(_ path: String, size: Int, alpha: AlphaHandling = .drop) throws -> ImageOptions {
    try naming(path) {
      if CLIPConfig.isHuggingFace(json: try json(in: path)) {
        return try HuggingFaceFiles.preprocessing(beside: path, size: size, alpha: alpha)
      }
      return try ImageOptions(preprocessConfig: preprocessConfig(path) ?? [:], size: size, alpha: alpha)
    }
  }

  /// Reads the same of weights whose sizes are a preset's: from the JSON beside them, if there is one.
  static func preprocessing(beside weights: String, size: Int, alpha: AlphaHandling = .drop) throws -> ImageOptions {
    let file = description(of: weights)
    guard FileManager.default.fileExists(atPath: file) else {
      return try ImageOptions(preprocessConfig: [:], size: size, alpha: alpha)
    }
    return try preprocessing(file, size: size, alpha: alpha)
  }

  /// Returns the `preprocess_cfg` of a model's JSON; nil if it has none.
  static func preprocessConfig(_ path: String) throws -> [String: Any]? {
    try naming(path) {
      guard let found = try object(json(in: path), path)["preprocess_cfg"], !(found is NSNull) else { return nil }
      guard let config = found as? [String: Any] else {
        throw UserError(path, "preprocess_cfg is \(found), and an object is wanted")
      }
      return config
    }
  }

  /// Returns the object in the JSON of the file at `path`.
  static func object(_ json: Data, _ path: String) throws -> [String: Any] {
    do {
      if let object = try JSONSerialization.jsonObject(with: json, options: .fragmentsAllowed) as? [String: Any] {
        return object
      }
    } catch { throw UserError(path, "is not JSON: \(error.explanation)") }
    throw UserError(path, "is JSON, but not an object in braces")
  }

  /// Returns a model of these sizes with the weights of a file. A config may say any sizes: memory is only taken if
  /// they are the file's, and if it suffices for the model and forwards of `pairs` pairs (see `MemoryDemand`). Of
  /// `ranks` that read the same file, each reads a share, which the others receive; then its checksum is not checked,
  /// which is left to `sha256(_:readInto:)`. All of them must call it.
  static func model(
    _ config: CLIPConfig, from path: String, pairs: Int = 0, over ranks: Communicator? = nil
  ) throws -> CLIP<Float> {
    let file = try WeightsFile.open(path)
    try requireFit(config, file)
    try config.requireMemory(path, pairs: pairs, over: ranks)
    let model = CLIP<Float>(config, frozen: true)
    guard let ranks, ranks.size > 1, try ranks.sharing(path).size == ranks.size else {
      try read(file, into: model)
      return model
    }
    let values = model.parameters.values
    let shares = ranks.slices(of: values.count)
    try read(file, into: model, ranges: [shares[ranks.rank]])
    try ranks.allGather(partsOf: values, ranges: shares)
    return model
  }

  /// Throws a `UserError` that lists every missing, unexpected and misshapen tensor of a file for a model of these
  /// sizes.
  static func requireFit(_ config: CLIPConfig, _ file: any NamedTensors) throws {
    // A size of 0, which stands for a vocabulary's, may have been replaced by a file's.
    try naming(file.path, config.validate)
    _ = try match(file, config, CLIP<Float>.layout(config))
  }

  /// Returns what relates a file's tensors to a model's. Throws as `requireFit` does.
  private static func match<S: Scalar>(
    _ file: any NamedTensors, _ config: CLIPConfig, _ store: ParameterStore<S>
  ) throws -> WeightsMatch {
    let match = WeightsMatch(WeightsForm(of: file), config, store)
    let problems = try match.mismatches(in: file)
    guard problems.isEmpty else {
      throw UserError(file.path, "does not fit the model:" + WeightsMatch.list(problems))
    }
    return match
  }

  /// Reads weights and buffers by name into a model, from a file in open_clip's form or Hugging Face's. With `ranges`,
  /// only these parts of the model's arena are read and written, and all buffers, which are small. If only one of model
  /// and file has a logit bias, the model's keeps its value and the file's is not read. Throws a `UserError` that lists
  /// every missing, unexpected and misshapen tensor, and without `ranges` the file's error if its checksum is wrong.
  static func read<S: Scalar>(_ path: String, into model: CLIP<S>, ranges: [Range<Int>]? = nil) throws {
    try read(WeightsFile.open(path), into: model, ranges: ranges)
  }

  private static func read<S: Scalar>(
    _ file: any NamedTensors, into model: CLIP<S>, ranges: [Range<Int>]? = nil
  ) throws {
    let store = model.parameters
    let match = try match(file, model.config, store)
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
    if ranges == nil { try file.verify(having: values(of: model)) }
  }
}
