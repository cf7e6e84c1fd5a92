public import Foundation
import Tensor

/// Conversion from and to the `config.json` of Hugging Face's `CLIPModel`. Missing keys have that library's defaults:
/// ViT-B/32 with QuickGELU. `eos_token_id` is the token whose row is read: 2, in old files, means the largest id of a
/// caption, any other that id's first occurrence. Kinship reads the last of the vocabulary, and refuses other files.
extension CLIPConfig {
  /// Returns whether a model's JSON is of this kind, and not open_clip's.
  public static func isHuggingFace(json: Data) -> Bool {
    guard let object = (try? JSONSerialization.jsonObject(with: json)) as? [String: Any] else { return false }
    return object["text_config"] != nil || object["text_config_dict"] != nil
  }

  public init(huggingFace json: Data) throws {
    guard let object = (try? JSONSerialization.jsonObject(with: json)) as? [String: Any] else {
      throw ConfigError("the model config is not a JSON object")
    }
    let type = object["model_type"] as? String ?? "clip"
    try Self.require(type == "clip", "model_type is \(type), and clip is wanted")
    var top = KeyReader(object, path: "")
    var text = KeyReader(Self.section(object, "text_config"), path: "text_config.")
    var vision = KeyReader(Self.section(object, "vision_config"), path: "vision_config.")
    embedding = try top.integer("projection_dim", default: 512)
    let textWidth = try text.integer("hidden_size", default: 512)
    let textHidden = try text.integer("intermediate_size", default: 2048)
    self.text = TextConfig(
      contextLength: try text.integer("max_position_embeddings", default: 77),
      vocabularySize: try text.integer("vocab_size", default: 49408), width: textWidth,
      heads: try text.integer("num_attention_heads", default: 8),
      layers: try text.integer("num_hidden_layers", default: 12))
    self.text.mlpRatio = Self.ratio(hidden: textHidden, width: textWidth)
    let width = try vision.integer("hidden_size", default: 768)
    let hidden = try vision.integer("intermediate_size", default: 3072)
    let heads = try vision.integer("num_attention_heads", default: 12)
    try Self.require(
      heads > 0 && width > 0 && width % heads == 0,
      "vision_config.hidden_size \(width) is not a multiple of num_attention_heads \(heads)")
    self.vision = VisionConfig(
      imageSize: try vision.integer("image_size", default: 224),
      patchSize: try vision.integer("patch_size", default: 32), width: width,
      layers: try vision.integer("num_hidden_layers", default: 12), headWidth: width / heads)
    self.vision.mlpRatio = Self.ratio(hidden: hidden, width: width)
    activation = try Self.activation(&text)
    let other = try Self.activation(&vision)
    try Self.require(
      activation == other,
      "text_config.hidden_act is \(activation.rawValue) and vision_config.hidden_act \(other.rawValue); "
        + "both towers must have the same")
    for var reader in [text, vision] {
      let epsilon = try reader.number("layer_norm_eps", default: 1e-5)
      try Self.require(epsilon == 1e-5, "\(reader.path)layer_norm_eps is \(epsilon), and 1e-05 is wanted")
    }
    let channels = try vision.integer("num_channels", default: 3)
    try Self.require(channels == 3, "vision_config.num_channels is \(channels), and 3 is wanted")
    let (end, last) = (try text.integer("eos_token_id", default: 49407), self.text.vocabularySize - 1)
    try Self.require(
      end == 2 || end == last,
      "text_config.eos_token_id is \(end), and the vocabulary's last token, \(last), is wanted (or 2, as old files "
        + "have it)")
    try validate()
  }

  /// The model's sizes as Hugging Face's JSON; throws a `ConfigError` if `CLIPModel` cannot represent the model.
  public var huggingFaceJSON: Data {
    get throws {
      try Self.require(
        vision.stages == nil, "its vision tower is a ResNet, and Hugging Face's CLIPModel has transformers only")
      try Self.require(
        !isPruned, "it is a pruned model: its blocks have sizes of their own, which CLIPModel cannot have")
      func tower(_ sizes: [String: Any], _ type: String) -> [String: Any] {
        sizes.merging([
          "model_type": type, "hidden_act": activation.rawValue, "layer_norm_eps": 1e-5, "projection_dim": embedding,
          "attention_dropout": 0.0,
        ]) { $1 }
      }
      let last = text.vocabularySize - 1
      let object: [String: Any] = [
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": embedding,
        "logit_scale_init_value": 2.6592, "torch_dtype": "float32",
        "text_config": tower(
          [
            "hidden_size": text.width, "intermediate_size": text.hidden, "num_attention_heads": text.heads,
            "num_hidden_layers": text.layers, "vocab_size": text.vocabularySize,
            "max_position_embeddings": text.contextLength, "bos_token_id": last - 1, "eos_token_id": last,
            "pad_token_id": last,
          ], "clip_text_model"),
        "vision_config": tower(
          [
            "hidden_size": vision.width, "intermediate_size": vision.hidden, "num_attention_heads": vision.heads,
            "num_hidden_layers": vision.layers, "image_size": vision.imageSize, "patch_size": vision.patchSize,
            "num_channels": 3,
          ], "clip_vision_model"),
      ]
      return try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys])
    }
  }

  /// Merges a section with its copy under `…_dict` in old files, which takes precedence.
  private static func section(_ object: [String: Any], _ name: String) -> [String: Any] {
    let section = object[name] as? [String: Any] ?? [:]
    return section.merging(object[name + "_dict"] as? [String: Any] ?? [:]) { $1 }
  }

  private static func activation(_ reader: inout KeyReader) throws -> Activation {
    let name = try reader.string("hidden_act", default: Activation.quickGELU.rawValue)
    guard let activation = Activation(rawValue: name) else {
      throw ConfigError("\(reader.path)hidden_act is \(name), and gelu or quick_gelu is wanted")
    }
    return activation
  }

  /// Returns the ratio from which exactly this number of hidden units results.
  private static func ratio(hidden: Int, width: Int) -> Double {
    let ratio = Double(hidden) / Double(width)
    return Int(exactly: (Double(width) * ratio).rounded(.down)) == hidden ? ratio : ratio.nextUp
  }
}
