import Dist
import Tensor
import TestSupport
import Testing

@testable import Model

/// Some steps of AdamW end where PyTorch's do.
@Suite struct VitTrainingGoldenTests {
  typealias Tolerance = VitGoldenTests.Tolerance

  let golden: TowerGoldenSet
  init() throws { golden = try TowerGoldenSet("vit") }

  /// Loss before each step and log scale after it, and the model after all of them.
  private func train<S: Scalar>(
    _: S.Type
  ) throws -> (model: CLIP<S>, losses: [Double], scales: [Double]) {
    let settings = golden.meta.adamw
    let learner = Learner<S>(model: try golden.model())
    let store = learner.model.parameters
    let optimizer = AdamW(
      store,
      .init(
        decay: settings.weightDecay, beta1: settings.betas[0], beta2: settings.betas[1], epsilon: settings.eps))
    var (losses, scales): ([Double], [Double]) = ([], [])
    for step in 0..<settings.steps {
      fill(store.gradients, 0)
      losses.append(try learner.accumulate(golden.batch(golden.rows(ofStep: step))))
      optimizer.update(store.values, gradient: store.gradients, rate: settings.lr)
      learner.model.clampLogitScale()
      scales.append(Double(learner.model.logitScale.value[0]))
    }
    return (learner.model, losses, scales)
  }

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
    let (model, losses, scales) = try train(Double.self)
    let (loss, scale) = (
      Deviation(losses, from: golden.meta.adamwLossesF64), Deviation(scales, from: golden.meta.adamwLogitScaleF64)
    )
    #expect(loss.relative <= Tolerance.double, "losses: \(loss)")
    #expect(scale.relative <= Tolerance.double, "log scale: \(scale)")
    try forEachParameter(of: model) { name, _, deviation in
      #expect(deviation.relative <= Tolerance.rounded, "\(name): \(deviation)")
    }
    let start: CLIP<Double> = try golden.model()
    for (name, known) in golden.meta.afterLeftOut {
      let entry = try #require(model.parameters.entry(named: name))
      let (now, before) = (model.parameters.value(of: entry).array, start.parameters.value(of: entry).array)
      let change = zip(now, before).map { $0 - $1 }
      let size = now.reduce(0) { $0 + abs($1) }
      #expect(abs(now.reduce(0, +) - known.sum) <= Tolerance.double * size, "sum of \(name)")
      for (numbers, expected) in [(now, known.l2), (change, known.l2OfChange)] {
        let norm = numbers.reduce(0) { $0 + $1 * $1 }.squareRoot()
        #expect(abs(norm - expected) <= Tolerance.double * expected, "\(name): a norm is \(norm), expected \(expected)")
      }
    }
  }

  @Test func stepsInSinglePrecision() throws {
    let (model, losses, scales) = try train(Float.self)
    let (loss, scale) = (
      Deviation(losses, from: golden.meta.adamwLossesF32), Deviation(scales, from: golden.meta.adamwLogitScaleF32)
    )
    #expect(loss.absolute <= Tolerance.singleLosses, "losses: \(loss)")
    #expect(scale.absolute <= Tolerance.singleParameters, "log scale: \(scale)")
    let farthest = golden.meta.adamw.lr * Double(golden.meta.adamw.steps)
    try forEachParameter(of: model) { name, isKeyBias, deviation in
      if isKeyBias {
        // Its gradient is zero but for rounding, which Adam enlarges.
        #expect(deviation.absolute <= Tolerance.singleKeyBias, "\(name): \(deviation)")
      } else {
        #expect(deviation.absolute <= farthest, "\(name): \(deviation)")
        #expect(deviation.share(within: Tolerance.singleParameters) >= 0.99, "\(name): \(deviation)")
      }
    }
  }

  /// Compares every parameter with the file: whole, or the sample that the file has of a large one. The key's third of
  /// a fused bias is compared by itself.
  private func forEachParameter<S: Scalar>(
    of model: CLIP<S>, _ body: (_ name: String, _ isKeyBias: Bool, Deviation) -> Void
  ) throws {
    let file = try SafetensorsFile(golden.file("params_after_adamw.safetensors"))
    for entry in model.parameters.entries {
      var numbers = model.parameters.value(of: entry).array
      if file.contains(entry.name) {
        let expected = try file.tensor(entry.name, as: Double.self).array
        if entry.name.hasSuffix("in_proj_bias") {
          let key = numbers.count / 3..<2 * numbers.count / 3
          body(entry.name, true, Deviation(numbers[key], from: expected[key]))
          numbers.removeSubrange(key)
          var others = expected
          others.removeSubrange(key)
          body(entry.name, false, Deviation(numbers, from: others))
        } else {
          body(entry.name, false, Deviation(numbers, from: expected))
        }
      } else {
        let known = try #require(golden.meta.afterLeftOut[entry.name], "\(entry.name) is nowhere in the set")
        let sample = try file.tensor("\(entry.name)#sample", as: Double.self).array
        let own = (0..<sample.count).map { numbers[$0 * known.stride] }
        body("\(entry.name)#sample", false, Deviation(own, from: sample))
      }
    }
  }
}
