// The operations of matrix products; a multiply-add counts as two.

extension BlockSizes {
  /// Returns the operations in one forward of a sequence of `length` rows, which may be a mean. Only what is computed
  /// counts: in the last block the keys and values of all rows, and everything else of the one row that is read.
  func forwardOperations(length: Double, width: Int) -> Double {
    let last = heads.count - 1
    return heads.indices.reduce(0.0) {
      $0 + operations($1, length, read: $1 == last ? 1 : length, width, products: 2)
    }
  }

  /// Returns the operations that `Recompute.blocks` repeats: not the last block, nor the second product of the MLPs.
  fileprivate func repeatedOperations(length: Double, width: Int) -> Double {
    heads.indices.dropLast().reduce(0.0) { $0 + operations($1, length, read: length, width, products: 1) }
  }

  /// Returns the operations in a block that reads all `l` rows and computes `read` of them, with one or both of the
  /// MLP's products.
  private func operations(_ block: Int, _ l: Double, read: Double, _ width: Int, products: Double) -> Double {
    let (w, inner) = (Double(width), Double(heads[block] * headWidth))
    return 2 * w * (2 * l * inner + read * (2 * inner + products * Double(hidden[block]))) + 4 * read * l * inner
  }
}

extension VisionConfig {
  /// Returns the operations of the matrix products in one image's forward, which for training are fewer with patch
  /// dropout.
  public func forwardOperations(embedding: Int, use: TowerUse = .forward) -> Double {
    guard stages != nil else {
      let t = tokens(in: use)
      return 2 * Double(t - 1) * Double(3 * patchSize * patchSize * width)
        + blockSizes.forwardOperations(length: Double(t), width: width) + 2 * Double(width * embedding)
    }
    let products = convolutions.reduce(0) { $0 + Double($1.points * $1.taps * $1.inputs * $1.outputs) }
    // The pool: query, key and value once each, for one token; all tokens once for the scores and once for the mean.
    let c = Double(outputWidth)
    let pool = 3 * c * c + 2 * Double(tokens * heads) * c + c * Double(embedding)
    return 2 * (products + pool)
  }

  fileprivate var repeatedOperations: Double {
    guard let stages else { return blockSizes.repeatedOperations(length: Double(trainedTokens), width: width) }
    // Neither the stem nor the last block, whose shortcut has a convolution if the block is the first of its stage.
    return convolutions.dropFirst(3).dropLast(stages.last == 1 ? 4 : 3).reduce(0) {
      $0 + 2 * Double($1.points * $1.taps * $1.inputs * $1.outputs)
    }
  }

  /// The convolutions of a ResNet, as matrix products of `points` rows.
  private var convolutions: [(points: Int, taps: Int, inputs: Int, outputs: Int)] {
    var side = (imageSize + 1) / 2
    var list = stem.map { (points: side * side, taps: 9, inputs: $0.inputs, outputs: $0.outputs) }
    side /= 2
    for block in bottlenecks.joined() {
      let output = block.halves ? side / 2 : side
      list.append((side * side, 1, block.inputs, block.planes))
      list.append((side * side, 9, block.planes, block.planes))
      list.append((output * output, 1, block.planes, block.outputs))
      if !block.keepsShape { list.append((output * output, 1, block.inputs, block.outputs)) }
      side = output
    }
    return list
  }
}

extension CLIPConfig {
  /// Returns the operations of the matrix products in the forward of one image and some captions of this mean length.
  public func forwardOperations(tokens: Double, captions: Int = 1, use: TowerUse = .forward) -> Double {
    let caption =
      text.blockSizes.forwardOperations(length: tokens, width: text.width) + 2 * Double(text.width * embedding)
    return vision.forwardOperations(embedding: embedding, use: use) + Double(captions) * caption
  }

  /// Returns the operations that backward repeats, in towers that are not frozen.
  public func repeatedOperations(
    tokens: Double, captions: Int = 1, _ recompute: Recompute, frozen: Frozen = .none
  ) -> Double {
    guard recompute == .blocks else { return 0 }
    let caption = text.blockSizes.repeatedOperations(length: tokens, width: text.width)
    return (frozen.image ? 0 : vision.repeatedOperations) + (frozen.text ? 0 : Double(captions) * caption)
  }
}
