import Foundation
import Tensor
import TestSupport
import Testing

@testable import Model

@Suite struct CLIPConfigTests {
  private static var good: [String: Any] {
    [
      "embed_dim": 6,
      "vision_cfg": ["image_size": 8, "patch_size": 4, "width": 10, "layers": 2, "head_width": 5] as [String: Any],
      "text_cfg": ["context_length": 7, "vocab_size": 50, "width": 9, "heads": 3, "layers": 1] as [String: Any],
    ]
  }

  /// `good` with one key changed, or without it where `value` is nil.
  private static func json(_ section: String?, _ key: String, _ value: Any?) throws -> Data {
    var top = good
    if let section, var inner = top[section] as? [String: Any] {
      inner[key] = value
      top[section] = inner
    } else {
      top[key] = value
    }
    return try JSONSerialization.data(withJSONObject: top)
  }

  @Test func readsOpenCLIPsKeys() throws {
    let config = try CLIPConfig(json: JSONSerialization.data(withJSONObject: Self.good))
    #expect(config.embedding == 6 && config.activation == .gelu)
    #expect(config.vision == VisionConfig(imageSize: 8, patchSize: 4, width: 10, layers: 2, headWidth: 5))
    #expect(config.vision.heads == 2 && config.vision.hidden == 40 && config.vision.tokens == 5)
    #expect(config.text == TextConfig(contextLength: 7, vocabularySize: 50, width: 9, heads: 3, layers: 1))
    let wrapped = try JSONSerialization.data(withJSONObject: ["model_cfg": Self.good, "preprocess_cfg": [:]])
    #expect(try CLIPConfig(json: wrapped) == config)
  }

  private static func resNet(_ vision: String) throws -> CLIPConfig {
    try CLIPConfig(
      json: Data(
        #"{"embed_dim": 1024, "vision_cfg": {\#(vision)}, "text_cfg": {"width": 512, "heads": 8, "layers": 12}}"#.utf8))
  }

  /// open_clip's config of RN50 has a patch size, which is null.
  @Test func readsAResNet() throws {
    let config = try Self.resNet(#""image_size": 224, "layers": [3, 4, 6, 3], "width": 64, "patch_size": null"#)
    #expect(try config == CLIPConfig(preset: "RN50"))
    let vision = config.vision
    #expect(vision.heads == 32 && vision.outputWidth == 2048 && vision.tokens == 50 && vision.layers == 16)
  }

  @Test(
    arguments: [
      (32, nil), (33, nil), (62, nil), (64, nil), (288, nil),
      (63, "vision_cfg.image_size is 63: a ModifiedResNet wants a multiple of 32, or up to 30 more than one"),
      (31, "vision_cfg.image_size is 31: a ModifiedResNet wants a multiple of 32, or up to 30 more than one"),
    ] as [(Int, String?)]) func imagesOfResNets(size: Int, mistake: String?) throws
  {
    let read = { try Self.resNet(#""image_size": \#(size), "layers": [1, 1, 1, 1], "width": 4, "head_width": 8"#) }
    guard let mistake else { return #expect(try read().vision.heads == 16) }
    #expect(#expect(throws: ConfigError.self) { try read() }?.description == mistake)
  }

  @Test func headsAndWidthOfResNets() {
    for (vision, message) in [
      (
        #""layers": [1, 1, 1, 1], "width": 3, "head_width": 64"#,
        "vision_cfg.width · 32 = 96 is not a multiple of head_width 64: set head_width to a divisor"
      ),
      (
        #""layers": [1, 1, 1, 1], "width": 1, "head_width": 8"#,
        "vision_cfg.width is 1: a ModifiedResNet's is between 2 and 65536"
      ),
    ] {
      #expect(#expect(throws: ConfigError.self) { try Self.resNet(vision) }?.description == message)
    }
  }

  @Test func whatIsMissingIsAsInOpenCLIP() throws {
    let json =
      #"{"embed_dim": 512, "vision_cfg": {"layers": 12, "width": 768, "patch_size": 16},"#
      + #" "text_cfg": {"width": 512, "heads": 8, "layers": 12}}"#
    #expect(try CLIPConfig(json: Data(json.utf8)) == CLIPConfig(preset: "ViT-B-16"))
  }

  /// A bias of 0 is one, null is none, and a model without one does not name it.
  @Test func readsAndWritesTheLogitBias() throws {
    for bias in [-10.0, 0, nil] as [Double?] {
      let config = try CLIPConfig(json: Self.json(nil, "init_logit_bias", bias.map { $0 as Any } ?? NSNull()))
      #expect(config.initialLogitBias == bias)
      #expect(CLIP<Float>.layout(config).entry(named: "logit_bias")?.shape == bias.map { _ in Shape() })
      #expect(try CLIPConfig(json: config.json) == config)
      let text = String(decoding: try config.json, as: UTF8.self)
      #expect(text.contains("init_logit_bias") == (bias != nil))
    }
  }

  /// A model without patch dropout does not name it, as before there was any.
  @Test func readsAndWritesPatchDropout() throws {
    for share in [0, 0.5] {
      let config = try CLIPConfig(json: Self.json("vision_cfg", "patch_dropout", share))
      #expect(config.vision.patchDropout == share && config.vision.tokens == 5)
      #expect(try CLIPConfig(json: config.json) == config)
      #expect(try String(decoding: config.json, as: UTF8.self).contains("patch_dropout") == (share > 0))
    }
    let residual = try Self.resNet(#""layers": [3, 4, 6, 3], "width": 64, "patch_dropout": 0.5"#)
    #expect(try residual == CLIPConfig(preset: "RN50"))
  }

  /// If the objective learns a bias, the bias begins at the run's setting.
  @Test func theObjectiveAddsTheLogitBias() throws {
    var config = try CLIPConfig(json: JSONSerialization.data(withJSONObject: Self.good))
    #expect(config.trained(by: ObjectiveOptions()) == config)
    config.initialLogitBias = -3
    #expect(config.trained(by: ObjectiveOptions()).initialLogitBias == -3)
    var objective = ObjectiveOptions()
    objective.siglip = 1
    #expect(config.trained(by: objective).initialLogitBias == -10)
    objective[SigLIPSettings.self].bias = -5
    #expect(config.trained(by: objective).initialLogitBias == -5)

    let model = CLIP<Float>.student(config, objective, teacherWidth: nil).model
    #expect(model.config.initialLogitBias == -5)
    let names = model.parameters.entries.suffix(2).map(\.name)
    #expect(names == ["logit_scale", "logit_bias"] && model.entries.suffix(2).map(\.name) == names)
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 1)
    #expect(model.parameters.entry(named: "logit_bias").map { model.parameters.value(of: $0).array } == [-5])
  }

  @Test func writesWhatItReads() throws {
    for (_, preset) in CLIPConfig.presets {
      var config = preset
      config.activation = .quickGELU
      if config.vision.stages == nil { config.vision.mlpRatio = 2.5 }
      #expect(try CLIPConfig(json: config.json) == config)
      try config.validate()
    }
  }

  struct Mistake: Sendable, CustomTestStringConvertible {
    let section: String?
    let key: String
    let value: (any Sendable)?
    let message: String
    var testDescription: String { message }
    init(_ section: String?, _ key: String, _ value: (any Sendable)?, _ message: String) {
      (self.section, self.key, self.value, self.message) = (section, key, value, message)
    }
  }

  @Test(arguments: [
    Mistake(nil, "embed_dim", nil, "the model config has no embed_dim"),
    Mistake(nil, "vision_cfg", nil, "the model config has no object vision_cfg"),
    Mistake(nil, "text_cfg", 3, "the model config has no object text_cfg"),
    Mistake(nil, "embed_dim", 0, "embed_dim is 0: it must be between 1 and 16777216"),
    Mistake(nil, "embed_dim", 1.5, "embed_dim is 1.5, and a whole number is wanted"),
    Mistake(nil, "embed_dim", 1e300, "embed_dim is 1e+300, and a whole number is wanted"),
    Mistake(nil, "embed_dim", "six", "embed_dim is six, and a number is wanted"),
    Mistake(nil, "embed_dim", true, "embed_dim is true, and a number is wanted"),
    Mistake(nil, "quick_gelu", 1, "quick_gelu is 1, and true or false is wanted"),
    Mistake(nil, "quick_gelu", "yes", "quick_gelu is yes, and true or false is wanted"),
    Mistake(
      nil, "multimodal_cfg", true,
      "unknown in the model config: multimodal_cfg; known here: custom_text, embed_dim, init_logit_bias, quick_gelu, "
        + "text_cfg, vision_cfg"),
    Mistake(nil, "custom_text", "roberta", "custom_text is roberta, and true or false is wanted"),
    Mistake(nil, "embed_dim", "512", "embed_dim is the text “512”, and a number is wanted"),
    Mistake(nil, "init_logit_bias", "low", "init_logit_bias is low, and a number is wanted"),
    Mistake(nil, "init_logit_bias", -101, "init_logit_bias is -101.0: it must be between -100 and 100"),
    Mistake(
      "vision_cfg", "timm_model_name", "resnet18",
      "unknown in the model config: vision_cfg.timm_model_name; known here: vision_cfg.blocks, vision_cfg.head_width, "
        + "vision_cfg.image_size, vision_cfg.layers, vision_cfg.mlp_ratio, vision_cfg.patch_dropout, "
        + "vision_cfg.patch_size, vision_cfg.width"),
    Mistake(
      "vision_cfg", "patch_dropout", 1, "vision_cfg.patch_dropout is 1.0: it must be at least 0 and less than 1"),
    Mistake(
      "vision_cfg", "patch_dropout", -0.1, "vision_cfg.patch_dropout is -0.1: it must be at least 0 and less than 1"),
    Mistake("vision_cfg", "patch_dropout", "half", "vision_cfg.patch_dropout is half, and a number is wanted"),
    Mistake(
      "vision_cfg", "layers", [3, 4, 6],
      "vision_cfg.layers is [3, 4, 6]: a ModifiedResNet has four stages of 1 to 1000 blocks each"),
    Mistake(
      "vision_cfg", "layers", [3, 4, 0, 3],
      "vision_cfg.layers is [3, 4, 0, 3]: a ModifiedResNet has four stages of 1 to 1000 blocks each"),
    Mistake(
      "vision_cfg", "layers", [3, 4, 0.5, 3], "vision_cfg.layers has 0.5 in it, and whole numbers are wanted"),
    Mistake(
      "vision_cfg", "layers", [1, 1, 1, 1],
      "vision_cfg.image_size is 8: a ModifiedResNet wants a multiple of 32, or up to 30 more than one"),
    Mistake("vision_cfg", "layers", 0, "vision_cfg.layers is 0: it must be between 1 and 10000"),
    Mistake("text_cfg", "layers", 10_001, "text_cfg.layers is 10001: it must be between 1 and 10000"),
    Mistake("vision_cfg", "patch_size", 9, "vision_cfg.patch_size 9 exceeds image_size 8"),
    Mistake("vision_cfg", "width", -10, "vision_cfg.width is -10: it must be between 1 and 16777216"),
    Mistake(
      "vision_cfg", "head_width", 4,
      "vision_cfg.width 10 is not a multiple of head_width 4: set head_width to a divisor"),
    Mistake("vision_cfg", "head_width", 0, "vision_cfg.head_width is 0: it must be between 1 and 16777216"),
    Mistake("text_cfg", "heads", 2, "text_cfg.width 9 is not a multiple of heads 2"),
    Mistake("text_cfg", "heads", 0, "text_cfg.heads is 0: it must be between 1 and 16777216"),
    Mistake("text_cfg", "context_length", 1, "text_cfg.context_length is 1: start and end of text alone need 2"),
    Mistake("text_cfg", "vocab_size", -1, "text_cfg.vocab_size is -1: it must be between 0 and 16777216"),
    Mistake("text_cfg", "mlp_ratio", 0.01, "text_cfg.mlp_ratio · width is 0.09: it must be between 1 and 16777216"),
    Mistake(
      "vision_cfg", "mlp_ratio", 1e300, "vision_cfg.mlp_ratio · width is 1e+301: it must be between 1 and 16777216"),
    Mistake(
      "vision_cfg", "image_size", 16_777_216,
      "a model of this config has about 175921860448639.0 parameters: it must be fewer than 2^40"),
    Mistake(
      "text_cfg", "context_length", 1e18,
      "text_cfg.context_length is 1000000000000000000: it must be between 2 and 16777216"),
    Mistake(
      "text_cfg", "vocab_size", 1e18,
      "text_cfg.vocab_size is 1000000000000000000: it must be between 0 and 16777216"),
  ]) func refuses(_ mistake: Mistake) throws {
    let json = try Self.json(mistake.section, mistake.key, mistake.value)
    let error = #expect(throws: ConfigError.self) { try CLIPConfig(json: json) }
    #expect(error?.description == mistake.message)
  }

  @Test func refusesWhatIsNoJSON() {
    for text in ["", "{", "[1]", "7", "\u{0}"] {
      #expect(throws: ConfigError.self) { try CLIPConfig(json: Data(text.utf8)) }
    }
  }

  @Test func anUnknownPresetListsThem() {
    let error = #expect(throws: ConfigError.self) { try CLIPConfig(preset: "ViT-X") }
    #expect(error?.description.hasPrefix("no model is called ViT-X; there are ViT-T-16, ViT-S-16, ") == true)
  }

  // MARK: parameters

  /// The parameter counts of open_clip's models, as its state dicts add up.
  @Test(arguments: [
    ("ViT-T-16", 5_622_912, 40_493_184, 46_116_097), ("ViT-B-16", 86_192_640, 63_428_096, 149_620_737),
    ("ViT-L-14", 303_966_208, 123_650_304, 427_616_513), ("RN50", 38_316_896, 63_690_240, 102_007_137),
  ]) func parametersOfPresets(name: String, visual: Int, text: Int, total: Int) throws {
    let layout = CLIP<Float>.layout(try CLIPConfig(preset: name))
    let vision = layout.entries.filter { $0.name.hasPrefix("visual.") }.reduce(0) { $0 + $1.shape.count }
    #expect(vision == visual)
    #expect(layout.parameterCount - vision - 1 == text)
    #expect(layout.parameterCount == total)
    #expect(layout.entries.allSatisfy { $0.offset % 16 == 0 } && layout.count >= total)
  }
}

@Suite struct CLIPConfigGoldenTests {
  /// The set's configs of towers, as paths within it.
  static func configs() throws -> [String] {
    let paths = try FileManager.default.subpathsOfDirectory(atPath: Fixture.golden.path).filter {
      let name = $0.split(separator: "/").last ?? ""
      return name.hasPrefix("open_clip_config") && name.hasSuffix(".json")
    }
    return try Fixture.required(paths.sorted(), "open_clip_config*.json")
  }

  @Test(arguments: try configs()) func readsTheFile(path: String) throws {
    let data = try Data(contentsOf: Fixture.golden.appending(path: path))
    let config = try CLIPConfig(json: data)
    let top = try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
    let written = try #require(JSONSerialization.jsonObject(with: config.json) as? [String: Any])
    for (key, value) in top {
      #expect("\(written[key] ?? "nothing")" == "\(value)" || Self.isContained(value, in: written[key]), "\(key)")
    }
  }

  private static func isContained(_ value: Any, in other: Any?) -> Bool {
    guard let value = value as? [String: NSObject], let other = other as? [String: NSObject] else { return false }
    return value.allSatisfy { other[$0.key] == $0.value }
  }
}
