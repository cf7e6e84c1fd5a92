import Model
import Tensor
import TestSupport

/// Small models of odd sizes, for differences and slow references.
enum SmallModels {
  struct Sizes: Sendable, CustomStringConvertible {
    var name: String
    var embedding: Int
    var vision: VisionConfig
    var text: TextConfig
    var activation = Activation.gelu
    /// The captions' lengths, end of text included.
    var lengths: [Int]
    var description: String { name }

    var config: CLIPConfig {
      var config = CLIPConfig(embedding: embedding, vision: vision, text: text)
      config.activation = activation
      return config
    }
  }

  static let all = [
    Sizes(
      name: "a patch that leaves a rest, prime widths", embedding: 3,
      vision: VisionConfig(imageSize: 7, patchSize: 3, width: 5, layers: 1, headWidth: 5),
      text: TextConfig(contextLength: 5, vocabularySize: 7, width: 7, heads: 1, layers: 1), lengths: [2, 5]),
    Sizes(
      name: "one image, one patch, heads of one column, quick", embedding: 2,
      vision: VisionConfig(imageSize: 2, patchSize: 2, width: 3, layers: 2, headWidth: 1),
      text: TextConfig(contextLength: 2, vocabularySize: 5, width: 3, heads: 3, layers: 2), activation: .quickGELU,
      lengths: [2]),
    Sizes(
      name: "three pairs, two layers", embedding: 5,
      vision: VisionConfig(imageSize: 4, patchSize: 2, width: 6, layers: 2, headWidth: 3),
      text: TextConfig(contextLength: 6, vocabularySize: 9, width: 4, heads: 2, layers: 2), lengths: [3, 2, 6]),
  ]

  /// Images and captions; end of text is the largest id, and other ids come more than once.
  static func batch<S: Scalar>(_ sizes: Sizes) -> (images: Tensor<S>, tokens: TokenBatch) {
    let (count, size) = (sizes.lengths.count, sizes.vision.imageSize)
    return (.random(Shape(count, 3, size, size), "images", bound: 2), TokenBatch(captions(sizes)))
  }

  static func captions(_ sizes: Sizes) -> [[Int32]] {
    var random = KeyedRandom(seed: 2, purpose: "captions")
    let end = Int32(sizes.text.vocabularySize - 1)
    return sizes.lengths.map { length in
      (1..<length).map { _ in Int32(random.below(sizes.text.vocabularySize - 1)) } + [end]
    }
  }

  /// Returns the number of successive roundings in a feature: those of sums over the width, the hidden units and the
  /// positions of each block, a dozen single ones, and those of embedding and projection.
  static func roundings(_ config: CLIPConfig) -> Double {
    let (v, t) = (config.vision, config.text)
    let vision = v.layers * (8 * v.width + 2 * v.hidden + 2 * v.tokens + 12) + 3 * v.patchSize * v.patchSize + v.width
    let text = t.layers * (8 * t.width + 2 * t.hidden + 2 * t.contextLength + 12) + t.width
    return Double(max(vision, text) + config.embedding)
  }
}
