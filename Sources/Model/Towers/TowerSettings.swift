public import Settings

extension VisionConfig: Section {
  public init() { self.init(patchSize: 0, width: 0, layers: 0) }

  public mutating func fields(_ map: FieldMap) {
    var blocks = stages.map(VisionBlocks.stages) ?? .layers(layers)
    map.field("image_size", &imageSize)
    map.required("layers", &blocks, "the number of blocks, or of a ResNet those of each stage")
    switch blocks {
    case .layers(let count):
      (layers, stages) = (count, nil)
      map.required("patch_size", &patchSize, "the side of a patch in pixels")
      map.required("width", &width, "the width of the tower")
      map.field("head_width", &headWidth)
      map.field("mlp_ratio", &mlpRatio)
    case .stages(let counts):
      map.required("width", &width, "the width of the tower")
      map.field("head_width", &headWidth)
      self = VisionConfig(imageSize: imageSize, stages: counts, width: width, headWidth: headWidth)
    }
  }
}

/// The key `layers` of a vision tower: a number for a transformer, a list for a ResNet.
enum VisionBlocks: FieldValue {
  case layers(Int)
  case stages([Int])

  static var expectation: String { "a whole number, or a list of four of them for a ResNet" }

  static func read(_ node: RunNode, _ problems: Problems) -> VisionBlocks? {
    if case .list = node.value { return [Int].read(node, problems).map(VisionBlocks.stages) }
    return Int.read(node, problems).map(VisionBlocks.layers)
  }

  var tree: RunTree {
    switch self {
    case .layers(let count): count.tree
    case .stages(let counts): counts.tree
    }
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
