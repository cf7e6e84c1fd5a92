import Tensor

extension CLIPConfig {
  /// The named models, in the order in which help lists them. The first seven are open_clip's (ViT-T-16 is CLIP-KD's);
  /// the rest are for images of 64 pixels and take the size of the run's vocabulary.
  public static let presets: [(name: String, config: CLIPConfig)] = [
    ("ViT-T-16", large(512, VisionConfig(patchSize: 16, width: 192, layers: 12), textWidth: 384)),
    ("ViT-S-16", large(384, VisionConfig(patchSize: 16, width: 384, layers: 12), textWidth: 384)),
    ("ViT-B-32", large(512, VisionConfig(patchSize: 32, width: 768, layers: 12), textWidth: 512)),
    ("ViT-B-16", large(512, VisionConfig(patchSize: 16, width: 768, layers: 12), textWidth: 512)),
    ("ViT-L-14", large(768, VisionConfig(patchSize: 14, width: 1024, layers: 24), textWidth: 768)),
    ("RN50", large(1024, VisionConfig(stages: [3, 4, 6, 3], width: 64), textWidth: 512)),
    ("RN101", large(512, VisionConfig(stages: [3, 4, 23, 3], width: 64), textWidth: 512)),
    ("ViT-64-T-16", small(width: 128, patchSize: 16, layers: 3, textLayers: 3)),
    ("ViT-64-S-16", small(width: 192, patchSize: 16, layers: 4, textLayers: 4)),
    ("ViT-64-S-8", small(width: 192, patchSize: 8, layers: 4, textLayers: 4)),
    ("ViT-64-B-8", small(width: 256, patchSize: 8, layers: 6, textLayers: 4)),
  ]

  private static func large(_ embedding: Int, _ vision: VisionConfig, textWidth width: Int) -> CLIPConfig {
    CLIPConfig(embedding: embedding, vision: vision, text: TextConfig(width: width, heads: width / 64, layers: 12))
  }

  private static func small(width: Int, patchSize: Int, layers: Int, textLayers: Int) -> CLIPConfig {
    CLIPConfig(
      embedding: width,
      vision: VisionConfig(imageSize: 64, patchSize: patchSize, width: width, layers: layers, headWidth: width / 4),
      text: TextConfig(contextLength: 32, vocabularySize: 0, width: width, heads: 4, layers: textLayers))
  }

  /// Creates a preset, with QuickGELU if the name ends in `-quickgelu`, or throws a `ConfigError` with all names.
  public init(preset name: String) throws {
    let suffix = "-quickgelu"
    let quick = name.hasSuffix(suffix)
    let bare = quick ? String(name.dropLast(suffix.count)) : name
    guard let found = Self.presets.first(where: { $0.name == bare }) else {
      throw ConfigError(
        "no model is called \(name); there are \(Self.presets.map(\.name).joined(separator: ", ")), each also with "
          + "\(suffix), or name a JSON file")
    }
    self = found.config
    if quick { activation = .quickGELU }
  }
}
