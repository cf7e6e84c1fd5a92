/// The sizes of a transformer's blocks: in a pruned one each block has its own, otherwise they are all equal.
public struct BlockSizes: Equatable, Sendable {
  /// The number of columns in a head.
  public var headWidth: Int
  /// The number of heads in each block.
  public var heads: [Int]
  /// The number of hidden units in each block's MLP.
  public var hidden: [Int]
  /// The tower's width, and the heads and hidden units of a block, before pruning: sparsity is relative to these.
  public var fullWidth: Int
  public var fullHeads: Int
  public var fullHidden: Int

  public init(headWidth: Int, heads: [Int], hidden: [Int], fullWidth: Int, fullHeads: Int, fullHidden: Int) {
    (self.headWidth, self.heads, self.hidden) = (headWidth, heads, hidden)
    (self.fullWidth, self.fullHeads, self.fullHidden) = (fullWidth, fullHeads, fullHidden)
  }

  /// Creates blocks of equal sizes.
  init(layers: Int, width: Int, heads: Int, hidden: Int) {
    self.init(
      headWidth: width / heads, heads: Array(repeating: heads, count: layers),
      hidden: Array(repeating: hidden, count: layers), fullWidth: width, fullHeads: heads, fullHidden: hidden)
  }

  /// The sizes as a JSON object.
  var object: [String: Any] {
    [
      "head_width": headWidth, "heads": heads, "hidden": hidden, "full_width": fullWidth, "full_heads": fullHeads,
      "full_hidden": fullHidden,
    ]
  }

  /// Returns the operations of the matrix products in one forward of a sequence of `length` rows; a multiply-add counts
  /// as two.
  func forwardOperations(length: Int, width: Int) -> Double { forwardOperations(length: Double(length), width: width) }

  /// Returns the same for a mean length.
  func forwardOperations(length l: Double, width: Int) -> Double {
    let w = Double(width)
    return zip(heads, hidden).reduce(0) { sum, block in
      let inner = Double(block.0 * headWidth)
      return sum + 2 * l * w * (4 * inner + 2 * Double(block.1)) + 4 * l * l * inner
    }
  }

  /// Returns the operations that `Recompute.blocks` repeats: in all blocks but the last, all products but the MLP's
  /// second one.
  func repeatedOperations(length l: Double, width: Int) -> Double {
    let w = Double(width)
    return zip(heads, hidden).dropLast().reduce(0) { sum, block in
      let inner = Double(block.0 * headWidth)
      return sum + 2 * l * w * (4 * inner + Double(block.1)) + 4 * l * l * inner
    }
  }

  /// Returns what is wrong with these sizes for a tower of `layers` blocks; nil if they are right.
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
  /// The sizes of each block.
  public var blockSizes: BlockSizes { blocks ?? BlockSizes(layers: layers, width: width, heads: heads, hidden: hidden) }
}

extension TextConfig {
  /// The sizes of each block.
  public var blockSizes: BlockSizes { blocks ?? BlockSizes(layers: layers, width: width, heads: heads, hidden: hidden) }
  /// The number of columns in a head.
  public var headWidth: Int { blocks?.headWidth ?? width / heads }
}
