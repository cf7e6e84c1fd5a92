import Tensor
import TestSupport
import Testing

@testable import Model

/// Some steps of AdamW end where PyTorch's do, running statistics included.
@Suite struct ResNetTrainingGoldenTests {
  typealias Tolerance = ResNetGoldenTests.Tolerance

  let golden: TowerGoldenSet
  init() throws { golden = try TowerGoldenSet("resnet") }

  @Test func decayedParameters() throws {
    let model: CLIP<Float> = try golden.model()
    let decays = { (entry: NamedSlice) in DecayRule.legacy.decays(entry.name, entry.shape) }
    let entries = model.parameters.entries
    #expect(Set(entries.filter(decays).map(\.name)) == Set(golden.meta.adamw.decayed))
    #expect(Set(entries.filter { !decays($0) }.map(\.name)) == Set(golden.meta.adamw.notDecayed))
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
      #expect(deviation.absolute <= farthest, "\(name): \(deviation)")
      #expect(isKeyBias || deviation.share(within: Tolerance.singleParameters) >= 0.99, "\(name): \(deviation)")
    }
  }
}
