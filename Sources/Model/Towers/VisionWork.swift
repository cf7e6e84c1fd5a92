import Tensor

extension VisionConfig {
  /// Returns the operations of the matrix products in one image's forward; a multiply-add counts as two.
  public func forwardOperations(embedding: Int) -> Double {
    guard stages != nil else {
      let patches = Double(grid * grid)
      return 2 * patches * Double(3 * patchSize * patchSize * width)
        + blockSizes.forwardOperations(length: tokens, width: width) + 2 * Double(width * embedding)
    }
    let products = convolutions.reduce(0) { $0 + Double($1.points * $1.taps * $1.inputs * $1.outputs) }
    // The pool: query, key and value once each, for one token; all tokens once for the scores and once for the mean.
    let c = Double(outputWidth)
    let pool = 3 * c * c + 2 * Double(tokens * heads) * c + c * Double(embedding)
    return 2 * (products + pool)
  }

  /// The operations that `Recompute.blocks` repeats.
  fileprivate var repeatedOperations: Double {
    guard let stages else { return blockSizes.repeatedOperations(length: Double(tokens), width: width) }
    // Neither the stem nor the last block, whose shortcut has a convolution if the block is the first of its stage.
    return convolutions.dropFirst(3).dropLast(stages.last == 1 ? 4 : 3).reduce(0) {
      $0 + 2 * Double($1.points * $1.taps * $1.inputs * $1.outputs)
    }
  }

  /// The convolutions of a ResNet, as matrix products of `points` rows.
  private var convolutions: [(points: Int, taps: Int, inputs: Int, outputs: Int)] {
    var side = (imageSize + 1) / 2
    let half = width / 2
    var list = [(side * side, 9, 3, half), (side * side, 9, half, half), (side * side, 9, half, width)]
    side /= 2
    var inputs = width
    for (stage, blocks) in (stages ?? []).enumerated() {
      let planes = width << stage
      for block in 0..<blocks {
        let strided = block == 0 && stage > 0
        let output = strided ? side / 2 : side
        list.append((side * side, 1, inputs, planes))
        list.append((side * side, 9, planes, planes))
        list.append((output * output, 1, planes, 4 * planes))
        if block == 0 { list.append((output * output, 1, inputs, 4 * planes)) }
        (side, inputs) = (output, 4 * planes)
      }
    }
    return list.map { (points: $0.0, taps: $0.1, inputs: $0.2, outputs: $0.3) }
  }
}

extension CLIPConfig {
  /// Returns the operations of the matrix products in one pair's forward, for a caption of this mean length; a
  /// multiply-add counts as two.
  public func forwardOperations(tokens: Double) -> Double {
    vision.forwardOperations(embedding: embedding)
      + text.blockSizes.forwardOperations(length: tokens, width: text.width) + 2 * Double(text.width * embedding)
  }

  /// Returns the operations that backward repeats, in towers that are not frozen.
  public func repeatedOperations(tokens: Double, _ recompute: Recompute, frozen: Frozen = .none) -> Double {
    guard recompute == .blocks else { return 0 }
    return (frozen.image ? 0 : vision.repeatedOperations)
      + (frozen.text ? 0 : text.blockSizes.repeatedOperations(length: tokens, width: text.width))
  }
}
