public import Settings

extension VisionConfig: Section {
  public init() { self.init(patchSize: 0, width: 0, layers: 0) }

  public mutating func fields(_ map: FieldMap) {
    var blocks = VisionBlocks(layers: layers, stages: stages)
    map.field("image_size", &imageSize)
    map.required("layers", &blocks, "the number of blocks, or of a ResNet those of each stage")
    if blocks.stages == nil { map.required("patch_size", &patchSize, "the side of a patch in pixels") }
    map.required("width", &width, "the width of the tower")
    map.field("head_width", &headWidth)
    if let stages = blocks.stages {
      self = VisionConfig(imageSize: imageSize, stages: stages, width: width, headWidth: headWidth)
    } else {
      (layers, stages) = (blocks.layers, nil)
      map.field("mlp_ratio", &mlpRatio)
      map.field("patch_dropout", &patchDropout)
    }
  }
}

/// The key `layers` of a vision tower: a number for a transformer, a list for a ResNet.
private struct VisionBlocks: FieldValue {
  var layers = 0
  var stages: [Int]?
  static var expectation: String { "a whole number, or a list of four of them for a ResNet" }
  var tree: RunTree { stages?.tree ?? layers.tree }

  static func read(_ node: RunNode, _ problems: Problems) -> VisionBlocks? {
    if case .list = node.value { return [Int].read(node, problems).map { VisionBlocks(stages: $0) } }
    return Int.read(node, problems).map { VisionBlocks(layers: $0) }
  }
}

extension TextConfig: Section {
  public init() { self.init(width: 0, heads: 0, layers: 0) }

  public mutating func fields(_ map: FieldMap) {
    map.field("context_length", &contextLength)
    map.field("vocab_size", &vocabularySize)
    map.required("width", &width, "the width of the tower")
    map.required("heads", &heads, "the number of attention heads")
    map.required("layers", &layers, "the number of blocks")
    map.field("mlp_ratio", &mlpRatio)
  }
}
