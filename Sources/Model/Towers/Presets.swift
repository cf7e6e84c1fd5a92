import Tensor

extension CLIPConfig {
  /// The named models, in the order in which help lists them. The first seven are open_clip's (ViT-T-16: CLIP-KD's);
  /// the rest are for pictures of 64 pixels and take as many words as the run's vocabulary has.
  public static let presets: [(name: String, config: CLIPConfig)] = [
    (
      "ViT-T-16",
      CLIPConfig(
        embedding: 512, vision: VisionConfig(patchSize: 16, width: 192, layers: 12),
        text: TextConfig(width: 384, heads: 6, layers: 12))
    ),
    (
      "ViT-S-16",
      CLIPConfig(
        embedding: 384, vision: VisionConfig(patchSize: 16, width: 384, layers: 12),
        text: TextConfig(width: 384, heads: 6, layers: 12))
    ),
    (
      "ViT-B-32",
      CLIPConfig(
        embedding: 512, vision: VisionConfig(patchSize: 32, width: 768, layers: 12),
        text: TextConfig(width: 512, heads: 8, layers: 12))
    ),
    (
      "ViT-B-16",
      CLIPConfig(
        embedding: 512, vision: VisionConfig(patchSize: 16, width: 768, layers: 12),
        text: TextConfig(width: 512, heads: 8, layers: 12))
    ),
    (
      "ViT-L-14",
      CLIPConfig(
        embedding: 768, vision: VisionConfig(patchSize: 14, width: 1024, layers: 24),
        text: TextConfig(width: 768, heads: 12, layers: 12))
    ),
    (
      "RN50",
      CLIPConfig(
        embedding: 1024, vision: VisionConfig(stages: [3, 4, 6, 3], width: 64),
        text: TextConfig(width: 512, heads: 8, layers: 12))
    ),
    (
      "RN101",
      CLIPConfig(
        embedding: 512, vision: VisionConfig(stages: [3, 4, 23, 3], width: 64),
        text: TextConfig(width: 512, heads: 8, layers: 12))
    ),
    (
      "ViT-64-T-16",
      CLIPConfig(
        embedding: 128, vision: VisionConfig(imageSize: 64, patchSize: 16, width: 128, layers: 3, headWidth: 32),
        text: TextConfig(contextLength: 32, vocabularySize: 0, width: 128, heads: 4, layers: 3))
    ),
    (
      "ViT-64-S-16",
      CLIPConfig(
        embedding: 192, vision: VisionConfig(imageSize: 64, patchSize: 16, width: 192, layers: 4, headWidth: 48),
        text: TextConfig(contextLength: 32, vocabularySize: 0, width: 192, heads: 4, layers: 4))
    ),
    (
      "ViT-64-S-8",
      CLIPConfig(
        embedding: 192, vision: VisionConfig(imageSize: 64, patchSize: 8, width: 192, layers: 4, headWidth: 48),
        text: TextConfig(contextLength: 32, vocabularySize: 0, width: 192, heads: 4, layers: 4))
    ),
    (
      "ViT-64-B-8",
      CLIPConfig(
        embedding: 256, vision: VisionConfig(imageSize: 64, patchSize: 8, width: 256, layers: 6),
        text: TextConfig(contextLength: 32, vocabularySize: 0, width: 256, heads: 4, layers: 4))
    ),
  ]

  /// The preset of that name, with QuickGELU where the name ends in `-quickgelu`, as open_clip writes it; an unknown
  /// name is an error that lists them.
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
