import Model
import Tensor

/// What an evaluation needs of a model: how its pictures and captions are prepared, and their features.
protocol Embedder: AnyObject {
  /// d, the numbers of an embedding.
  var width: Int { get }
  var image: ImageOptions { get }
  var tokenizer: BytePairTokenizer { get }

  /// Raw features [b, d] of prepared pictures [b, 3, n, n].
  func features(pictures: Tensor<Float>) -> Tensor<Float>
  /// Raw features [b, d] of captions as the tokenizer gives them.
  func features(captions: [[Int32]]) -> Tensor<Float>
}

/// The towers of a CLIP model.
final class CLIPEmbedder: Embedder {
  let model: CLIP<Float>
  let image: ImageOptions
  let tokenizer: BytePairTokenizer

  init(_ model: CLIP<Float>, image: ImageOptions, tokenizer: BytePairTokenizer) {
    self.model = model
    self.image = image
    self.tokenizer = tokenizer
  }

  var width: Int { model.config.embedding }

  func features(pictures: Tensor<Float>) -> Tensor<Float> { model.visual.forward(pictures, keeping: false) }
  func features(captions: [[Int32]]) -> Tensor<Float> { model.text.forward(TokenBatch(captions), keeping: false) }
}
