import Model
import Tensor

/// A model with what a training step needs beside it, on one rank.
struct Learner<S: Scalar> {
  let model: CLIP<S>
  let contrastive = Contrastive<S>()
  let features = Features<S>()

  /// The loss of a batch; the features' gradients are `weight` times those of the loss.
  func loss(
    _ batch: (images: Tensor<S>, tokens: TokenBatch), keeping: Bool = false, weight: S = 1
  ) throws -> Double {
    let image = model.visual.forward(batch.images, keeping: keeping)
    let text = model.text.forward(batch.tokens, keeping: keeping)
    let count = batch.tokens.count
    try features.load(image: image, text: text, rows: 0..<count, count: count, ranks: SingleRank())
    return try contrastive.accumulate(
      features, logitScale: model.logitScale.value[0], weight: weight, logitScaleGradient: model.logitScale.gradient,
      ranks: SingleRank())
  }

  /// The loss of a batch, of which `weight` times the gradients are added to the parameters'.
  func accumulate(_ batch: (images: Tensor<S>, tokens: TokenBatch), weight: S = 1) throws -> Double {
    let value = try loss(batch, keeping: true, weight: weight)
    let raw = features.rawGradients()
    model.visual.backward(raw.image)
    model.text.backward(raw.text)
    return value
  }
}
