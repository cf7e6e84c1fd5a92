import Model
import Tensor
import TestSupport

/// A model and CLIP's own loss, which declares no parameters, on one rank.
struct Learner<S: Scalar> {
  let model: CLIP<S>
  private let objective: Objective<S>

  init(model: CLIP<S>) {
    self.model = model
    objective = Objective(
      ObjectiveOptions(), studentWidth: model.config.embedding, teacherWidth: nil, declaringIn: ParameterStore())
  }

  /// Returns the loss of a batch; the features' gradients are `weight` times those of the loss.
  func loss(
    _ batch: (images: Tensor<S>, tokens: TokenBatch), mode: ForwardMode = .evaluation, weight: S = 1
  ) throws -> Double {
    let image = model.visual.forward(batch.images, mode: mode)
    let text = model.text.forward(batch.tokens, mode: mode)
    let count = batch.tokens.count
    objective.options.clip = Double(weight)
    return try objective.accumulate(
      image: image, text: text, rows: 0..<count, count: count, logitScale: model.logitScale, teacherScale: nil,
      ranks: SingleRank()
    ).terms[0].value
  }

  /// Returns the loss of a batch and adds `weight` times its gradients to the parameters' gradients.
  func accumulate(_ batch: (images: Tensor<S>, tokens: TokenBatch), weight: S = 1) throws -> Double {
    let value = try loss(batch, mode: .training, weight: weight)
    let raw = objective.rawGradients()
    model.visual.backward(raw.image)
    model.text.backward(raw.text)
    return value
  }
}
