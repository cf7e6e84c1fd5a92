import Tensor
import TestSupport
import Testing

@testable import Model

/// The gradients of whole towers, and of the whole model with its loss, of every parameter against differences.
@Suite struct TowerGradientTests {
  private func model(_ sizes: SmallModels.Sizes) -> CLIP<Double> {
    let model = CLIP<Double>(sizes.config)
    model.parameters.shake()
    return model
  }

  @Test(arguments: SmallModels.all) func vision(_ sizes: SmallModels.Sizes) {
    let (model, images) = (model(sizes), SmallModels.batch(sizes).images as Tensor<Double>)
    let parameters = model.parameters.variables.filter { $0.name.hasPrefix("visual.") }
    let report = GradientCheck(parameters, roundings: SmallModels.roundings(sizes.config)).run {
      model.visual.forward(images, mode: .training).array
    } backward: { weights in
      model.visual.backward(Tensor(Shape(images.shape[0], sizes.embedding), weights))
    }
    #expect(report.passed, "\(report)")
  }

  @Test(arguments: SmallModels.all) func text(_ sizes: SmallModels.Sizes) {
    let (model, tokens) = (model(sizes), TokenBatch(SmallModels.captions(sizes)))
    let parameters = model.parameters.variables.filter {
      !$0.name.hasPrefix("visual.") && $0.name != "logit_scale"
    }
    let report = GradientCheck(parameters, roundings: SmallModels.roundings(sizes.config)).run {
      model.text.forward(tokens, mode: .training).array
    } backward: { weights in
      model.text.backward(Tensor(Shape(tokens.count, sizes.embedding), weights))
    }
    #expect(report.passed, "\(report)")
  }

  /// The loss of one pair is 0 whatever the parameters, so only batches of several are checked.
  @Test(arguments: SmallModels.all.filter { $0.lengths.count > 1 }) func whole(_ sizes: SmallModels.Sizes) throws {
    let learner = Learner<Double>(model: model(sizes))
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = SmallModels.batch(sizes)
    let check = GradientCheck(
      learner.model.parameters.variables, roundings: SmallModels.roundings(sizes.config))
    let report = try check.run {
      [try learner.loss(batch)]
    } backward: { weights in
      _ = try learner.accumulate(batch, weight: weights[0])
    }
    #expect(report.passed, "\(report)")
  }

  @Test(arguments: SmallModels.all) func aSecondBackwardDoublesTheGradients(_ sizes: SmallModels.Sizes) throws {
    let learner = Learner<Double>(model: model(sizes))
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = SmallModels.batch(sizes)
    _ = try learner.accumulate(batch)
    let once = learner.model.parameters.gradients.array
    _ = try learner.accumulate(batch)
    let deviation = Deviation(learner.model.parameters.gradients.array, from: once.map { 2 * $0 })
    #expect(deviation.absolute <= 1e-14 * max(deviation.size, 1), "\(deviation)")
  }

  /// Buffers are used again by batches of other sizes; what an earlier batch left in them must not matter.
  @Test func aBatchDoesNotRememberTheOneBefore() throws {
    let sizes = SmallModels.all[2]
    let (fresh, used) = (Learner<Double>(model: model(sizes)), Learner<Double>(model: model(sizes)))
    var larger = sizes
    larger.lengths = [6, 6, 5, 4, 6, 2, 3]
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = SmallModels.batch(sizes)
    _ = try used.accumulate(SmallModels.batch(larger))
    fill(used.model.parameters.gradients, 0)
    let losses = (try fresh.accumulate(batch), try used.accumulate(batch))
    #expect(losses.0 == losses.1)
    #expect(fresh.model.parameters.gradients.array == used.model.parameters.gradients.array)
  }

  @Test(arguments: SmallModels.all) func forwardIsTheSameWhetherItKeepsOrNot(_ sizes: SmallModels.Sizes) {
    let model = model(sizes)
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = SmallModels.batch(sizes)
    let kept = (
      model.visual.forward(batch.images, mode: .training).array, model.text.forward(batch.tokens, mode: .training).array
    )
    #expect(model.visual.forward(batch.images, mode: .evaluation).array == kept.0)
    #expect(model.text.forward(batch.tokens, mode: .evaluation).array == kept.1)
  }

  @Test func aFeatureThatIsNotANumberStaysNone() {
    let model = model(SmallModels.all[2])
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = SmallModels.batch(SmallModels.all[2])
    batch.images[0] = .nan
    let features = model.visual.forward(batch.images, mode: .evaluation)
    #expect(features.rows(0..<1).array.allSatisfy { $0.isNaN } && features.rows(1..<3).array.allSatisfy { $0.isFinite })
    model.text.tokenEmbedding.value[Int(batch.tokens.ids[0]) * model.config.text.width] = .nan
    #expect(model.text.forward(batch.tokens, mode: .evaluation).rows(0..<1).array.allSatisfy { $0.isNaN })
  }
}
