import Dist
import Tensor
import TestSupport
import Testing

@testable import Model

extension TowerGoldenSet {
  /// Takes the set's steps of AdamW: loss before each step and log scale after it, and the model after all of them.
  func train<S: Scalar>(_: S.Type) throws -> (model: CLIP<S>, losses: [Double], scales: [Double]) {
    let settings = meta.adamw
    let learner = Learner<S>(model: try model())
    let store = learner.model.parameters
    let optimizer = AdamW(
      store,
      .init(
        decay: settings.weightDecay, beta1: settings.betas[0], beta2: settings.betas[1], epsilon: settings.eps))
    var (losses, scales): ([Double], [Double]) = ([], [])
    for step in 0..<settings.steps {
      fill(store.gradients, 0)
      losses.append(try learner.accumulate(batch(rows(ofStep: step))))
      try learner.model.visual.moveStatistics()
      optimizer.update(store.values, gradient: store.gradients, learningRate: settings.lr)
      learner.model.clampLogitScale()
      scales.append(Double(learner.model.logitScale.value[0]))
    }
    return (learner.model, losses, scales)
  }

  /// Compares the steps in double precision with the file: the losses, the log scales, and the model after them, whose
  /// numbers the file has `rounded` to single precision.
  func compareStepsInDouble(tolerance: Double, rounded: Double) throws {
    let (model, losses, scales) = try train(Double.self)
    let (loss, scale) = (
      Deviation(losses, from: meta.adamwLossesF64), Deviation(scales, from: meta.adamwLogitScaleF64)
    )
    #expect(loss.relative <= tolerance, "losses: \(loss)")
    #expect(scale.relative <= tolerance, "log scale: \(scale)")
    try forEachFinalTensor(of: model) { name, _, deviation in
      #expect(deviation.relative <= rounded, "\(name): \(deviation)")
    }
    try compareLeftOut(model, tolerance: tolerance)
  }

  /// Compares every parameter and buffer after the steps with the file: whole, or the sample that the file has of a
  /// large one. The key's third of a fused bias is compared separately, because its gradient is only rounding, which
  /// Adam enlarges.
  func forEachFinalTensor<S: Scalar>(
    of model: CLIP<S>, _ body: (_ name: String, _ isKeyBias: Bool, Deviation) -> Void
  ) throws {
    let file = try SafetensorsFile(file("params_after_adamw.safetensors"))
    for entry in model.parameters.entries {
      var numbers = model.parameters.value(of: entry).array
      if file.contains(entry.name) {
        var expected = try file.tensor(entry.name, as: Double.self).array
        if entry.name.hasSuffix("in_proj_bias") {
          let key = numbers.count / 3..<2 * numbers.count / 3
          body(entry.name, true, Deviation(numbers[key], from: expected[key]))
          numbers.removeSubrange(key)
          expected.removeSubrange(key)
        }
        body(entry.name, false, Deviation(numbers, from: expected))
      } else {
        let known = try #require(meta.afterLeftOut[entry.name], "\(entry.name) is nowhere in the set")
        let sample = try file.tensor("\(entry.name)#sample", as: Double.self).array
        let own = (0..<sample.count).map { numbers[$0 * known.stride] }
        body("\(entry.name)#sample", false, Deviation(own, from: sample))
      }
    }
    for buffer in model.parameters.buffers {
      let expected =
        buffer.isCount
        ? try file.integers(buffer.name).map(Double.init) : try file.tensor(buffer.name, as: Double.self).array
      body(buffer.name, false, Deviation(model.parameters.value(of: buffer).array, from: expected))
    }
  }

  /// Compares sum, norm, and norm of the change of the parameters that are too large for the file.
  func compareLeftOut(_ model: CLIP<Double>, tolerance: Double) throws {
    let start: CLIP<Double> = try self.model()
    for (name, known) in meta.afterLeftOut {
      let entry = try #require(model.parameters.entry(named: name))
      let (now, before) = (model.parameters.value(of: entry).array, start.parameters.value(of: entry).array)
      let change = zip(now, before).map { $0 - $1 }
      let size = now.reduce(0) { $0 + abs($1) }
      #expect(abs(now.reduce(0, +) - known.sum) <= tolerance * size, "sum of \(name)")
      for (numbers, expected) in [(now, known.l2), (change, known.l2OfChange)] {
        let norm = numbers.reduce(0) { $0 + $1 * $1 }.squareRoot()
        #expect(abs(norm - expected) <= tolerance * expected, "\(name): a norm is \(norm), expected \(expected)")
      }
    }
  }
}
