import Tensor
import TestSupport
import Testing

@testable import Model

/// The training of masks: it reaches the target sparsity, leaves the weights alone, and resumes exactly.
@Suite struct MaskTrainingTests {
  private static let sizes = MaskedModelTests.sizes[1]

  private static func training(_ seed: UInt64 = 3) -> (Learner<Double>, MaskTraining<Double>) {
    let model = CLIP<Double>(sizes.config)
    model.initialize(seed: 5)
    return (
      Learner(model: model),
      MaskTraining(
        model, MaskLayout(sizes.config, towers: .both),
        .init(sparsity: 0.5, start: 0, ramp: 100, learningRate: 0.05, seed: seed))
    )
  }

  private static func step(_ learner: Learner<Double>, _ training: MaskTraining<Double>) throws -> MaskReport {
    fill(learner.model.parameters.gradients, 0)
    training.apply()
    _ = try learner.accumulate(SmallModels.batch(sizes))
    return training.update(training.remove())
  }

  @Test func reachesTheTarget() throws {
    let (learner, training) = Self.training()
    let weights = learner.model.parameters.values.array
    var reports: [MaskReport] = []
    for _ in 0..<300 { reports.append(try Self.step(learner, training)) }
    #expect(learner.model.parameters.values.array == weights)
    // Biases of the MLP count as prunable but not as expected, so the sparsity begins a little above 0.
    #expect(reports[0].expected > 0 && reports[0].expected < 0.05)
    #expect(reports[0].target == 0 && reports[50].target == 0.25 && reports[200].target == 0.5)
    #expect(reports[1].multipliers[0] >= 10 && reports[299].multipliers[0] > 10.5)
    // Beyond the target no force pulls back, so momentum may overshoot it.
    #expect(reports[299].expected > 0.48 && reports[299].expected < 0.7, "\(reports[299])")
    let masks = training.masks
    #expect(
      abs(masks.sparsity(of: masks.expected) - reports[299].expected) < 0.1, "\(masks.sparsity(of: masks.expected))")
    #expect(masks.logAlpha.allSatisfy(HardConcrete.bounds.contains))
  }

  @Test func goesOnWhereItWas() throws {
    let (learner, training) = Self.training()
    for _ in 0..<5 { _ = try Self.step(learner, training) }
    let (other, resumed) = Self.training()
    let state = Dictionary(uniqueKeysWithValues: training.state)
    #expect(resumed.restore(state, step: 5).isEmpty)
    for _ in 0..<3 { #expect(try Self.step(learner, training) == (try Self.step(other, resumed))) }
    #expect(training.masks == resumed.masks)
    var broken = state
    broken["prune.visual.hidden.moment1"] = [1]
    broken["prune.multipliers.values"] = nil
    #expect(
      Self.training().1.restore(broken, step: 5).sorted() == [
        "prune.multipliers.values has no numbers, expected 2", "prune.visual.hidden.moment1 has 1 numbers, expected 9",
      ])
  }

  @Test func withoutChanceItIsTheCutModel() {
    let (learner, training) = Self.training()
    let before = learner.model.parameters.values.array
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = SmallModels.batch(Self.sizes)
    let features = training.withExpected { learner.model.visual.forward(batch.images, mode: .evaluation).array }
    #expect(learner.model.parameters.values.array == before)
    let cut = CLIP<Double>(training.masked.cutConfig(training.masks.expected))
    training.masked.cut(training.masks.expected, into: cut)
    let deviation = Deviation(cut.visual.forward(batch.images, mode: .evaluation).array, from: features)
    #expect(deviation.relative < 1e-12, "\(deviation)")
  }
}
