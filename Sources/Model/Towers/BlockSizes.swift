import Tensor

/// The sizes of a transformer's blocks: in a pruned one each block has its own, otherwise they are all equal.
public struct BlockSizes: Equatable, Sendable {
  public var headWidth: Int
  /// The number of heads in each block.
  public var heads: [Int]
  /// The number of hidden units in each block's MLP.
  public var hidden: [Int]
  /// The tower's width, and the heads and hidden units of a block, before pruning: sparsity is relative to these.
  public var fullWidth: Int
  public var fullHeads: Int
  public var fullHidden: Int
}

extension BlockSizes {
  init(layers: Int, width: Int, heads: Int, hidden: Int) {
    self.init(
      headWidth: width / heads, heads: Array(repeating: heads, count: layers),
      hidden: Array(repeating: hidden, count: layers), fullWidth: width, fullHeads: heads, fullHidden: hidden)
  }

  var object: [String: Any] {
    [
      "head_width": headWidth, "heads": heads, "hidden": hidden, "full_width": fullWidth, "full_heads": fullHeads,
      "full_hidden": fullHidden,
    ]
  }

  /// Throws a `ConfigError` if a tower of `layers` blocks cannot have these sizes.
  func validate(_ path: String, layers: Int, width: Int) throws {
    try CLIPConfig.require(
      heads.count == layers && hidden.count == layers,
      "\(path) has heads of \(heads.count) and hidden of \(hidden.count) blocks, and there are \(layers)")
    let largest = CLIPConfig.largestSize
    for size in heads + hidden + [headWidth, fullWidth, fullHeads, fullHidden] {
      try CLIPConfig.require(
        size >= 1 && size <= largest, "\(path) has the size \(size): all must be between 1 and \(largest)")
    }
    try CLIPConfig.require(
      width <= fullWidth && heads.allSatisfy { $0 <= fullHeads } && hidden.allSatisfy { $0 <= fullHidden },
      "\(path) has sizes beyond full_width \(fullWidth), full_heads \(fullHeads) and full_hidden \(fullHidden)")
  }
}

extension VisionConfig {
  /// The sizes of each block.
  public var blockSizes: BlockSizes { blocks ?? BlockSizes(layers: layers, width: width, heads: heads, hidden: hidden) }

  /// The channels and strides of the convolutions that precede a ResNet's blocks.
  var stem: [(inputs: Int, outputs: Int, stride: Int)] {
    [(3, width / 2, 2), (width / 2, width / 2, 1), (width / 2, width, 1)]
  }

  var bottlenecks: [[BottleneckSizes]] {
    var inputs = width
    return (stages ?? []).enumerated().map { stage, blocks in
      (0..<blocks).map { block in
        let sizes = BottleneckSizes(inputs: inputs, planes: width << stage, halves: block == 0 && stage > 0)
        inputs = sizes.outputs
        return sizes
      }
    }
  }
}

/// The sizes of a ResNet's block: the channels before it and within it, and whether it halves the image.
struct BottleneckSizes {
  let inputs: Int
  let planes: Int
  let halves: Bool
  var outputs: Int { 4 * planes }
  /// True if the shortcut needs no convolution.
  var keepsShape: Bool { !halves && inputs == outputs }
  func output(_ plane: Plane) -> Plane { halves ? plane.halved : plane }
}

extension TextConfig {
  /// The sizes of each block.
  public var blockSizes: BlockSizes { blocks ?? BlockSizes(layers: layers, width: width, heads: heads, hidden: hidden) }
  /// The number of columns in a head.
  public var headWidth: Int { blocks?.headWidth ?? width / heads }
}
