import Dist
import Foundation
import Model
import Tensor

/// The files of Hugging Face's `CLIPModel` and its processor in one folder: weights, sizes, and the preparation of
/// images and captions.
enum HuggingFaceFiles {
  static let weights = "model.safetensors"
  static let config = "config.json"
  static let preprocessor = "preprocessor_config.json"
  static let tokenizer = "tokenizer.json"
  static let tokenizerConfig = "tokenizer_config.json"

  /// Throws a `ConfigError` for a model or a preparation of images that Hugging Face cannot represent.
  static func check(_ model: CLIPConfig, _ preprocessing: ImageOptions) throws {
    _ = try model.huggingFaceJSON
    _ = try preprocessing.huggingFaceProcessor
  }

  /// Writes the files of a vocabulary into an existing folder.
  static func write(_ vocabulary: Vocabulary, context: Int, to folder: URL) throws {
    try ModelFiles.write(
      Data(vocabulary.tokenizerJSON(context: context).utf8), to: folder.appending(path: tokenizer))
    try write(vocabulary.tokenizerConfig(context: context), to: folder.appending(path: tokenizerConfig))
  }

  /// Writes the preparation of images into an existing folder. Throws a `ConfigError` for one that Hugging Face cannot
  /// represent.
  static func write(_ preprocessing: ImageOptions, to folder: URL) throws {
    try write(preprocessing.huggingFaceProcessor, to: folder.appending(path: preprocessor))
  }

  /// Writes a JSON object.
  private static func write(_ object: [String: Any], to file: URL) throws {
    try ModelFiles.write(
      JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys]), to: file)
  }

  /// Writes the model's three files into an existing folder. `CLIPModel` has no logit bias, on which neither its
  /// softmaxes nor rankings depend, so the bias is left out. Throws a `ConfigError` for a model that `CLIPModel` cannot
  /// represent, such as a ResNet, or a preparation of images that its processor cannot do; a `SafetensorsError` or a
  /// `FileError` if a file cannot be written.
  static func write(_ model: CLIP<Float>, preprocessing: ImageOptions, to folder: URL) throws {
    let sizes = try model.config.huggingFaceJSON
    let entries = model.entries.filter { $0.name != CLIPConfig.logitBias }.flatMap { entry in
      pieces(of: entry.name, model.parameters.value(of: entry)).map { SafetensorsEntry($0, $1) }
    }
    try SafetensorsFile.write(
      entries, metadata: ModelFiles.metadata(model.config),
      to: folder.appending(path: weights).path(percentEncoded: false))
    try ModelFiles.write(sizes, to: folder.appending(path: config))
    try write(preprocessing, to: folder)
  }

  private static func pieces(of name: String, _ value: Tensor<Float>) -> [(String, Tensor<Float>)] {
    guard let place = HuggingFaceNames.place(of: name) else {
      preconditionFailure("\(name) has no place among Hugging Face's names")
    }
    if place.isTransposed {
      let theirs = Tensor<Float>(Shape(value.columns, value.rows))
      transpose(value, into: theirs)
      return [(place.names[0], theirs)]
    }
    guard place.names.count > 1 else { return [(place.names[0], value)] }
    var sizes = value.shape.array
    sizes[0] /= place.names.count
    let part = value.count / place.names.count
    return place.names.enumerated().map { index, name in
      let piece = value.slice(index * part..<(index + 1) * part)
      return (name, piece.reshaped(Shape(sizes) ?? piece.shape))
    }
  }

  /// Reads the preprocessor's file beside a config, if there is one.
  static func preprocessing(beside config: String, size: Int, alpha: AlphaHandling) throws -> ImageOptions {
    let path = URL(filePath: config).deletingLastPathComponent().appending(path: preprocessor).relativePath
    guard FileManager.default.fileExists(atPath: path) else {
      return try ImageOptions(huggingFaceProcessor: [:], size: size, alpha: alpha)
    }
    return try ModelFiles.naming(path) {
      let object = try ModelFiles.object(Data(TextFile.json(path).utf8), path)
      return try ImageOptions(huggingFaceProcessor: object, size: size, alpha: alpha)
    }
  }
}

/// The names and layouts of Hugging Face's `CLIPModel`, by open_clip's names.
enum HuggingFaceNames {
  struct Place: Equatable {
    /// The name of its tensor there, or the names of several that split its rows: queries, keys and values.
    let names: [String]
    /// True if the tensor there is the transpose of ours.
    var isTransposed = false
  }

  /// The names of position ids that old files hold and nothing reads.
  static let ignored: Set = ["text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"]

  /// Returns the place of the tensor with open_clip's name `name`; nil for tensors that `CLIPModel` lacks, such as a
  /// ResNet's.
  static func place(of name: String) -> Place? {
    if let theirs = single[name] { return Place(names: [theirs]) }
    if let theirs = transposed[name] { return Place(names: [theirs], isTransposed: true) }
    if let theirs = replaced(name, norms) { return Place(names: [theirs]) }
    guard let (ours, theirs) = stacks.first(where: { name.hasPrefix($0.0) }) else { return nil }
    let parts = name.dropFirst(ours.count).split(separator: ".", maxSplits: 1)
    guard parts.count == 2 else { return nil }
    let block = "\(theirs)\(parts[0])."
    for kind in ["weight", "bias"] where parts[1] == "attn.in_proj_\(kind)" {
      return Place(names: ["q", "k", "v"].map { "\(block)self_attn.\($0)_proj.\(kind)" })
    }
    return replaced(String(parts[1]), layers).map { Place(names: [block + $0]) }
  }

  /// Returns a name with the prefix that the table has for it; nil if the table has none.
  private static func replaced(_ name: String, _ table: [(String, String)]) -> String? {
    table.first { name.hasPrefix($0.0) }.map { $0.1 + name.dropFirst($0.0.count) }
  }

  private static let single = [
    "logit_scale": "logit_scale", "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
  ]

  private static let transposed = [
    "text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight",
  ]

  /// The misspelling pre_layrnorm is Hugging Face's.
  private static let norms = [
    ("ln_final.", "text_model.final_layer_norm."), ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
  ]

  private static let stacks = [
    ("transformer.resblocks.", "text_model.encoder.layers."),
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
  ]

  private static let layers = [
    ("ln_1.", "layer_norm1."), ("ln_2.", "layer_norm2."), ("attn.out_proj.", "self_attn.out_proj."),
    ("mlp.c_fc.", "mlp.fc1."), ("mlp.c_proj.", "mlp.fc2."),
  ]
}
