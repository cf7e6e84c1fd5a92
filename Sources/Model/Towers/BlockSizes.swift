/// What a pruned transformer's blocks have, each its own, where a plain transformer's are all alike.
public struct BlockSizes: Equatable, Sendable {
  /// Numbers in a head.
  public var headWidth: Int
  /// Heads of each block.
  public var heads: [Int]
  /// Hidden units of each block's MLP.
  public var hidden: [Int]
  /// The tower's width, and heads and hidden units of a block, before anything was pruned: sparsity counts from there.
  public var fullWidth: Int
  public var fullHeads: Int
  public var fullHidden: Int

  public init(headWidth: Int, heads: [Int], hidden: [Int], fullWidth: Int, fullHeads: Int, fullHidden: Int) {
    self.headWidth = headWidth
    self.heads = heads
    self.hidden = hidden
    self.fullWidth = fullWidth
    self.fullHeads = fullHeads
    self.fullHidden = fullHidden
  }

  /// Blocks that are all alike.
  init(layers: Int, width: Int, heads: Int, hidden: Int) {
    self.init(
      headWidth: width / heads, heads: Array(repeating: heads, count: layers),
      hidden: Array(repeating: hidden, count: layers), fullWidth: width, fullHeads: heads, fullHidden: hidden)
  }

  /// As JSON has them.
  var object: [String: Any] {
    [
      "head_width": headWidth, "heads": heads, "hidden": hidden, "full_width": fullWidth, "full_heads": fullHeads,
      "full_hidden": fullHidden,
    ]
  }

  /// Multiply-adds twice, of the matrix products of one forward of a sequence.
  func forwardOperations(length: Int, width: Int) -> Double { forwardOperations(length: Double(length), width: width) }

  /// The same at a mean length.
  func forwardOperations(length l: Double, width: Int) -> Double {
    let w = Double(width)
    return zip(heads, hidden).reduce(0) { sum, block in
      let inner = Double(block.0 * headWidth)
      return sum + 2 * l * w * (4 * inner + 2 * Double(block.1)) + 4 * l * l * inner
    }
  }

  /// The same of what `Recompute.blocks` computes again: of all blocks but the last, all but the second product of the
  /// MLP.
  func repeatedOperations(length l: Double, width: Int) -> Double {
    let w = Double(width)
    return zip(heads, hidden).dropLast().reduce(0) { sum, block in
      let inner = Double(block.0 * headWidth)
      return sum + 2 * l * w * (4 * inner + Double(block.1)) + 4 * l * l * inner
    }
  }

  /// What is wrong with them as the blocks of a tower; nil: nothing.
  func mistake(layers: Int, width: Int) -> String? {
    let largest = 1 << 24
    if heads.count != layers || hidden.count != layers {
      return "blocks has heads of \(heads.count) and hidden of \(hidden.count) blocks, and there are \(layers)"
    }
    let sizes = heads + hidden + [headWidth, fullWidth, fullHeads, fullHidden]
    if let size = sizes.first(where: { $0 < 1 || $0 > largest }) {
      return "blocks has the size \(size): all must be between 1 and \(largest)"
    }
    if width > fullWidth || heads.contains(where: { $0 > fullHeads }) || hidden.contains(where: { $0 > fullHidden }) {
      return "blocks has sizes beyond full_width \(fullWidth), full_heads \(fullHeads) and full_hidden \(fullHidden)"
    }
    return nil
  }
}

extension VisionConfig {
  /// Each block's sizes.
  public var blockSizes: BlockSizes { blocks ?? BlockSizes(layers: layers, width: width, heads: heads, hidden: hidden) }
}

extension TextConfig {
  /// Each block's sizes.
  public var blockSizes: BlockSizes { blocks ?? BlockSizes(layers: layers, width: width, heads: heads, hidden: hidden) }
  /// Numbers in a head.
  public var headWidth: Int { blocks?.headWidth ?? width / heads }
}
