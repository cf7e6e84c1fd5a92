import Tensor
import TestSupport
import Testing

@testable import Model

/// Some steps of AdamW end where PyTorch's do.
@Suite struct VitTrainingGoldenTests {
  typealias Tolerance = VitGoldenTests.Tolerance

  let golden: TowerGoldenSet
  init() throws { golden = try TowerGoldenSet("vit") }

  @Test func decayedParameters() throws {
    let model: CLIP<Float> = try golden.model()
    let decayed = model.parameters.entries.filter { DecayRule.legacy.decays($0.name, $0.shape) }.map(\.name)
    #expect(Set(decayed) == Set(golden.meta.adamw.decayed))
    let kept = model.parameters.entries.filter { !DecayRule.legacy.decays($0.name, $0.shape) }.map(\.name)
    #expect(Set(kept) == Set(golden.meta.adamw.notDecayed))
    #expect(CLIP<Double>.logitScaleBounds.lowerBound == golden.meta.adamw.clamp[0])
    #expect(CLIP<Double>.logitScaleBounds.upperBound == golden.meta.adamw.clamp[1])
  }

  @Test func stepsInDouble() throws {
    try golden.compareStepsInDouble(tolerance: Tolerance.double, rounded: Tolerance.rounded)
  }

  @Test func stepsInSinglePrecision() throws {
    let (model, losses, scales) = try golden.train(Float.self)
    let (loss, scale) = (
      Deviation(losses, from: golden.meta.adamwLossesF32), Deviation(scales, from: golden.meta.adamwLogitScaleF32)
    )
    #expect(loss.absolute <= Tolerance.singleLosses, "losses: \(loss)")
    #expect(scale.absolute <= Tolerance.singleParameters, "log scale: \(scale)")
    let farthest = golden.meta.adamw.lr * Double(golden.meta.adamw.steps)
    try golden.forEachFinalTensor(of: model) { name, isKeyBias, deviation in
      if isKeyBias {
        // Its gradient is zero but for rounding, which Adam enlarges.
        #expect(deviation.absolute <= Tolerance.singleKeyBias, "\(name): \(deviation)")
      } else {
        #expect(deviation.absolute <= farthest, "\(name): \(deviation)")
        #expect(deviation.share(within: Tolerance.singleParameters) >= 0.99, "\(name): \(deviation)")
      }
    }
  }
}
