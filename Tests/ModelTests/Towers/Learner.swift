import Model
import Tensor
import TestSupport

/// A model with what a training step needs beside it, on one rank: CLIP's own loss, which declares no parameters.
struct Learner<S: Scalar> {
  let model: CLIP<S>
  private let objective: Objective<S>

  init(model: CLIP<S>) {
    self.model = model
    objective = Objective(
      ObjectiveOptions(), studentWidth: model.config.embedding, teacherWidth: nil, declaringIn: ParameterStore())
  }

  /// The loss of a batch; the features' gradients are `weight` times those of the loss.
  func loss(
    _ batch: (images: Tensor<S>, tokens: TokenBatch), keeping: Bool = false, weight: S = 1
  ) throws -> Double {
    let image = model.visual.forward(batch.images, keeping: keeping)
    let text = model.text.forward(batch.tokens, keeping: keeping)
    let count = batch.tokens.count
    objective.options.clip = Double(weight)
    return try objective.accumulate(
      image: image, text: text, rows: 0..<count, count: count, logitScale: model.logitScale, teacherScale: nil,
      ranks: SingleRank()
    ).terms[0].value
  }

  /// The loss of a batch, of which `weight` times the gradients are added to the parameters'.
  func accumulate(_ batch: (images: Tensor<S>, tokens: TokenBatch), weight: S = 1) throws -> Double {
    let value = try loss(batch, keeping: true, weight: weight)
    let raw = objective.rawGradients()
    model.visual.backward(raw.image)
    model.text.backward(raw.text)
    return value
  }
}
