import Dist
import Tensor
import TestSupport
import Testing

@testable import Model

/// Some steps of AdamW end where PyTorch's do, running statistics included.
@Suite struct ResNetTrainingGoldenTests {
  typealias Tolerance = ResNetGoldenTests.Tolerance

  let golden: TowerGoldenSet
  init() throws { golden = try TowerGoldenSet("resnet") }

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
      try learner.model.visual.moveStatistics()
      optimizer.update(store.values, gradient: store.gradients, rate: settings.lr)
      learner.model.clampLogitScale()
      scales.append(Double(learner.model.logitScale.value[0]))
    }
    return (learner.model, losses, scales)
  }

  @Test func decayedParameters() throws {
    let model: CLIP<Float> = try golden.model()
    let decays = { (entry: ParameterStore<Float>.Entry) in DecayRule.legacy.decays(entry.name, entry.shape) }
    let entries = model.parameters.entries
    #expect(Set(entries.filter(decays).map(\.name)) == Set(golden.meta.adamw.decayed))
    #expect(Set(entries.filter { !decays($0) }.map(\.name)) == Set(golden.meta.adamw.notDecayed))
  }

  @Test func stepsInDouble() throws {
    let (model, losses, scales) = try train(Double.self)
    let (loss, scale) = (
      Deviation(losses, from: golden.meta.adamwLossesF64), Deviation(scales, from: golden.meta.adamwLogitScaleF64)
    )
    #expect(loss.relative <= Tolerance.double, "losses: \(loss)")
    #expect(scale.relative <= Tolerance.double, "log scale: \(scale)")
    try forEachTensor(of: model) { name, deviation in
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
    try forEachTensor(of: model) { name, deviation in
      #expect(deviation.absolute <= farthest, "\(name): \(deviation)")
      #expect(deviation.share(within: Tolerance.singleParameters) >= 0.99, "\(name): \(deviation)")
    }
  }

  /// Compares every parameter and buffer with the file: whole, or the sample that the file has of a large one.
  private func forEachTensor<S: Scalar>(of model: CLIP<S>, _ body: (_ name: String, Deviation) -> Void) throws {
    let file = try SafetensorsFile(golden.file("params_after_adamw.safetensors"))
    for entry in model.parameters.entries {
      let numbers = model.parameters.value(of: entry).array
      if file.contains(entry.name) {
        body(entry.name, Deviation(numbers, from: try file.tensor(entry.name, as: Double.self).array))
      } else {
        let known = try #require(golden.meta.afterLeftOut[entry.name], "\(entry.name) is nowhere in the set")
        let sample = try file.tensor("\(entry.name)#sample", as: Double.self).array
        body("\(entry.name)#sample", Deviation((0..<sample.count).map { numbers[$0 * known.stride] }, from: sample))
      }
    }
    for buffer in model.parameters.buffers {
      let numbers = model.parameters.value(of: buffer).array
      let expected =
        buffer.isCount
        ? try file.integers(buffer.name).map(Double.init) : try file.tensor(buffer.name, as: Double.self).array
      body(buffer.name, Deviation(numbers, from: expected))
    }
  }
}
