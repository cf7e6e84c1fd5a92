public import Foundation
public import Tensor

/// The sizes of a vision tower, as in open_clip's `vision_cfg`: a transformer's, or with `stages` a ModifiedResNet's.
public struct VisionConfig: Equatable, Sendable {
  public var imageSize = 224
  /// The width of a patch in pixels; 32 in a ResNet, the distance of two points that its attention pool sees.
  public var patchSize: Int
  public var width: Int
  /// The number of blocks, in a ResNet summed over its stages.
  public var layers: Int
  /// The number of blocks of each stage of a ModifiedResNet; nil for a transformer.
  public var stages: [Int]?
  public var headWidth = 64
  public var mlpRatio = 4.0
  /// The share of an image's patches that training leaves out, as open_clip's PatchDropout does; 0 in a ResNet.
  public var patchDropout = 0.0
  /// Each block's own heads and hidden units in a pruned tower.
  public var blocks: BlockSizes?

  public init(imageSize: Int = 224, patchSize: Int, width: Int, layers: Int, headWidth: Int = 64) {
    (self.imageSize, self.patchSize, self.headWidth) = (imageSize, patchSize, headWidth)
    (self.width, self.layers) = (width, layers)
  }

  /// Creates the sizes of a ModifiedResNet.
  public init(imageSize: Int = 224, stages: [Int], width: Int, headWidth: Int = 64) {
    let blocks = stages.reduce(0) { $0.addingReportingOverflow($1).partialValue }
    self.init(imageSize: imageSize, patchSize: 32, width: width, layers: blocks, headWidth: headWidth)
    self.stages = stages
  }

  /// The number of channels before the projection to the embedding: 8 · 4 times the width in a ResNet.
  public var outputWidth: Int { stages == nil ? width : 32 * width }
  /// The number of attention heads, in a ResNet those of its attention pool.
  public var heads: Int { outputWidth / headWidth }
  /// The number of hidden units in a block's MLP; if the blocks differ, in the widest.
  public var hidden: Int { blocks?.hidden.max() ?? Int(Double(width) * mlpRatio) }
  /// The number of patches along one side of an image.
  public var grid: Int { imageSize / patchSize }
  /// The number of tokens of an image: the class token (in a ResNet the mean) and the patches.
  public var tokens: Int { 1 + grid * grid }
}

/// The sizes of a text transformer, as in open_clip's `text_cfg`.
public struct TextConfig: Equatable, Sendable {
  public var contextLength = 77
  /// The number of tokens; 0 stands for the size of the run's vocabulary.
  public var vocabularySize = 49408
  public var width: Int
  public var heads: Int
  public var layers: Int
  public var mlpRatio = 4.0
  /// Each block's own heads and hidden units in a pruned tower.
  public var blocks: BlockSizes?

  public init(contextLength: Int = 77, vocabularySize: Int = 49408, width: Int, heads: Int, layers: Int) {
    (self.contextLength, self.vocabularySize) = (contextLength, vocabularySize)
    (self.width, self.heads, self.layers) = (width, heads, layers)
  }

  /// The number of hidden units in a block's MLP; if the blocks differ, in the widest.
  public var hidden: Int { blocks?.hidden.max() ?? Int(Double(width) * mlpRatio) }
}

/// The sizes of a CLIP model, read from and written to open_clip's JSON model configs.
public struct CLIPConfig: Equatable, Sendable {
  public var embedding: Int
  public var vision: VisionConfig
  public var text: TextConfig
  public var activation: Activation = .gelu
  /// The value at which the model's `logit_bias` begins; nil if the model has no such parameter.
  public var initialLogitBias: Double?

  public init(embedding: Int, vision: VisionConfig, text: TextConfig) {
    (self.embedding, self.vision, self.text) = (embedding, vision, text)
  }
}

extension CLIPConfig {
  /// The name of SigLIP's bias of all similarities. Softmaxes and rankings do not depend on it, so a file of weights
  /// may hold it when the model does not, and the other way round.
  public static let logitBias = "logit_bias"
  /// The name of the scalar ln(scale) by which similarities are multiplied.
  public static let logitScale = "logit_scale"
  /// The name of the text tower's token embedding [vocabulary, width].
  public static let tokenEmbedding = "token_embedding.weight"
  /// open_clip's initial value for SigLIP.
  public static let usualLogitBias = -10.0
  /// Scaled similarities lie within ±100, so a bias beyond that has no use.
  static let logitBiasBounds = -100.0...100.0
  static let largestSize = 1 << 24

  /// True if blocks have sizes of their own, which no other program can build.
  public var isPruned: Bool { vision.blocks != nil || text.blocks != nil }

  /// Returns the model that an objective trains: with its logit bias, if it learns one.
  public func trained(by objective: ObjectiveOptions) -> CLIPConfig {
    var config = self
    config.initialLogitBias = objective.initialLogitBias ?? initialLogitBias
    return config
  }
}

/// A model config that cannot be built. The description says what to change.
public struct ConfigError: Error, CustomStringConvertible {
  public let description: String
  init(_ description: String) { self.description = description }
}

extension CLIPConfig {
  /// Reads open_clip's JSON, bare or under `model_cfg` as in `open_clip_config.json`. Throws a `ConfigError` for sizes
  /// that cannot be built, and for unknown keys, because these could mean another model.
  public init(json: Data) throws {
    let object: Any
    do { object = try JSONSerialization.jsonObject(with: json, options: .fragmentsAllowed) } catch {
      let place = (error as NSError).userInfo["NSDebugDescription"] as? String
      throw ConfigError("the model config is not JSON: \(place ?? error.localizedDescription)")
    }
    guard var top = object as? [String: Any] else { throw ConfigError("the model config is not a JSON object") }
    if let inner = top["model_cfg"] as? [String: Any] { top = inner }
    var reader = KeyReader(top, path: "")
    var vision = KeyReader(try reader.section("vision_cfg"), path: "vision_cfg.")
    var text = KeyReader(try reader.section("text_cfg"), path: "text_cfg.")
    embedding = try reader.integer("embed_dim")
    activation = try reader.flag("quick_gelu", default: false) ? .quickGELU : .gelu
    initialLogitBias = try reader.optionalNumber("init_logit_bias")
    // With it open_clip puts `text.` before the names of the same text tower's tensors.
    _ = try reader.flag("custom_text", default: false)
    let imageSize = try vision.integer("image_size", default: 224)
    let headWidth = try vision.integer("head_width", default: 64)
    let width = try vision.integer("width")
    if let stages = try vision.list("layers") {
      // open_clip writes keys of transformers into the configs of ResNets too, and passes over them.
      vision.known.formUnion(["patch_size", "mlp_ratio", "patch_dropout"])
      self.vision = VisionConfig(imageSize: imageSize, stages: stages, width: width, headWidth: headWidth)
    } else {
      self.vision = VisionConfig(
        imageSize: imageSize, patchSize: try vision.integer("patch_size"), width: width,
        layers: try vision.integer("layers"), headWidth: headWidth)
      self.vision.mlpRatio = try vision.number("mlp_ratio", default: 4)
      self.vision.patchDropout = try vision.number("patch_dropout", default: 0)
      self.vision.blocks = try vision.blockSizes()
    }
    self.text = TextConfig(
      contextLength: try text.integer("context_length", default: 77),
      vocabularySize: try text.integer("vocab_size", default: 49408), width: try text.integer("width"),
      heads: try text.integer("heads"), layers: try text.integer("layers"))
    self.text.mlpRatio = try text.number("mlp_ratio", default: 4)
    self.text.blocks = try text.blockSizes()
    // The vocabulary is named beside the model, and its size is compared with the model's.
    _ = try text.string("hf_tokenizer_name", default: "")
    try reader.finish()
    try vision.finish()
    try text.finish()
    try validate()
  }

  /// The model's sizes as open_clip's JSON.
  public var json: Data {
    get throws {
      var textObject: [String: Any] = [
        "context_length": text.contextLength, "vocab_size": text.vocabularySize, "width": text.width,
        "heads": text.heads, "layers": text.layers, "mlp_ratio": text.mlpRatio,
      ]
      textObject["blocks"] = text.blocks?.object
      var object: [String: Any] = [
        "embed_dim": embedding, "quick_gelu": activation == .quickGELU, "vision_cfg": visionObject,
        "text_cfg": textObject,
      ]
      object["init_logit_bias"] = initialLogitBias
      return try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys])
    }
  }

  private var visionObject: [String: Any] {
    var object: [String: Any] = ["image_size": vision.imageSize, "width": vision.width, "head_width": vision.headWidth]
    if let stages = vision.stages {
      object["layers"] = stages
    } else {
      object["layers"] = vision.layers
      object["patch_size"] = vision.patchSize
      object["mlp_ratio"] = vision.mlpRatio
      object["patch_dropout"] = vision.patchDropout > 0 ? vision.patchDropout : nil
      object["blocks"] = vision.blocks?.object
    }
    return object
  }

  /// Throws a `ConfigError` if sizes contradict each other, or if no machine could hold the model.
  public func validate() throws {
    let largest = Self.largestSize
    func check(_ name: String, _ size: Int, in bounds: ClosedRange<Int>) throws {
      let (low, high) = (bounds.lowerBound, bounds.upperBound)
      try Self.require(bounds.contains(size), "\(name) is \(size): it must be between \(low) and \(high)")
    }
    for (name, size) in [
      ("embed_dim", embedding), ("vision_cfg.image_size", vision.imageSize),
      ("vision_cfg.patch_size", vision.patchSize), ("vision_cfg.width", vision.width),
      ("vision_cfg.head_width", vision.headWidth), ("text_cfg.width", text.width), ("text_cfg.heads", text.heads),
    ] { try check(name, size, in: 1...largest) }
    // These are computed in Double, because the products may exceed the largest integer.
    for (path, hidden) in [
      ("vision_cfg", vision.mlpRatio * Double(vision.width)), ("text_cfg", text.mlpRatio * Double(text.width)),
    ] {
      let mistake = "\(path).mlp_ratio · width is \(hidden): it must be between 1 and \(largest)"
      try Self.require(hidden >= 1 && hidden <= Double(largest), mistake)
    }
    try Self.require(
      vision.patchDropout >= 0 && vision.patchDropout < 1,
      "vision_cfg.patch_dropout is \(vision.patchDropout): it must be at least 0 and less than 1")
    try check("vision_cfg.layers", vision.layers, in: 1...10_000)
    try check("text_cfg.layers", text.layers, in: 1...10_000)
    let context = text.contextLength
    try Self.require(context >= 2, "text_cfg.context_length is \(context): start and end of text alone need 2")
    try check("text_cfg.context_length", context, in: 2...largest)
    try check("text_cfg.vocab_size", text.vocabularySize, in: 0...largest)
    if let bias = initialLogitBias, !Self.logitBiasBounds.contains(bias) {
      throw ConfigError("init_logit_bias is \(bias): it must be between -100 and 100")
    }
    if let stages = vision.stages { try validate(stages: stages) }
    try Self.require(
      vision.patchSize <= vision.imageSize,
      "vision_cfg.patch_size \(vision.patchSize) exceeds image_size \(vision.imageSize)")
    try vision.blocks?.validate("vision_cfg.blocks", layers: vision.layers, width: vision.width)
    try text.blocks?.validate("text_cfg.blocks", layers: text.layers, width: text.width)
    let width = vision.stages == nil ? "width \(vision.width)" : "width · 32 = \(vision.outputWidth)"
    try Self.require(
      vision.blocks != nil || vision.outputWidth % vision.headWidth == 0,
      "vision_cfg.\(width) is not a multiple of head_width \(vision.headWidth): set head_width to a divisor")
    try Self.require(
      text.blocks != nil || text.width % text.heads == 0,
      "text_cfg.width \(text.width) is not a multiple of heads \(text.heads)")
    let count = approximateParameters
    try Self.require(count < 0x1p40, "a model of this config has about \(count) parameters: it must be fewer than 2^40")
  }

  private func validate(stages: [Int]) throws {
    try Self.require(
      stages.count == 4 && stages.allSatisfy { $0 >= 1 && $0 <= 1000 },
      "vision_cfg.layers is \(stages): a ModifiedResNet has four stages of 1 to 1000 blocks each")
    try Self.require(
      vision.width >= 2 && vision.width <= 1 << 16,
      "vision_cfg.width is \(vision.width): a ModifiedResNet's is between 2 and 65536")
    // A convolution of stride 2 rounds up and pooling rounds down; the result must be image_size / 32.
    let size = vision.imageSize
    try Self.require(
      (size + 1) / 2 / 16 == vision.grid && vision.grid >= 1,
      "vision_cfg.image_size is \(size): a ModifiedResNet wants a multiple of 32, or up to 30 more than one")
  }

  static func require(_ fact: Bool, _ text: @autoclosure () -> String) throws { if !fact { throw ConfigError(text()) } }

  /// The approximate number of parameters, in Double because the sum may exceed the largest integer.
  private var approximateParameters: Double {
    func tower(_ blocks: BlockSizes, _ width: Int, rows: Double) -> Double {
      let columns = zip(blocks.heads, blocks.hidden).reduce(0.0) {
        $0 + 4 * Double($1.0) * Double(blocks.headWidth) + 2 * Double($1.1)
      }
      return Double(width) * (columns + rows + Double(embedding))
    }
    let (grid, patch) = (Double(vision.grid), Double(vision.patchSize))
    let visual: Double
    if let stages = vision.stages {
      // Every block has 17 planes² parameters, the first of a stage up to twice as many.
      let width = Double(vision.outputWidth)
      visual = zip(stages, [1.0, 2, 4, 8]).reduce(width * (4 * width + grid * grid + Double(embedding))) { sum, stage in
        let planes = Double(vision.width) * stage.1
        return sum + Double(stage.0 + 1) * 17 * planes * planes
      }
    } else {
      visual = tower(vision.blockSizes, vision.width, rows: grid * grid + 3 * patch * patch)
    }
    return visual + tower(text.blockSizes, text.width, rows: Double(text.vocabularySize + text.contextLength))
  }
}
