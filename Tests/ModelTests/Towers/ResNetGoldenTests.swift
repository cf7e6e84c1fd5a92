import Dist
import Foundation
import Tensor
import TestSupport
import Testing

@testable import Model

/// A CLIP whose vision tower is a ModifiedResNet computes what open_clip's does, with stored and with batch statistics.
@Suite struct ResNetGoldenTests {
  /// The tolerances of the set's README, relative to the largest number of a tensor unless they are called absolute.
  enum Tolerance {
    static let double = 1e-9
    static let rounded = 1e-6
    static let singleEvaluation = 5e-6
    static let singleTraining = 2e-5
    static let singleLoss = 2e-5
    static let singleGradients = 2e-4
    static let singleLosses = 5e-5
    static let singleParameters = 3e-5
    /// The absolute tolerance of gradients that are zero except for rounding.
    static let zeroGradient = 1e-7
  }

  /// The parameter that shifts all scores of a head alike, which does not affect the softmax.
  static let keyBias = "visual.attnpool.k_proj.bias"

  let golden: TowerGoldenSet
  init() throws { golden = try TowerGoldenSet("resnet") }

  @Test func namesAndShapes() throws {
    let model: CLIP<Float> = try golden.model()
    let store = model.parameters
    #expect(Set(store.entries.map(\.name) + store.buffers.map(\.name)) == Set(golden.weights.names))
    for (name, shape) in store.entries.map({ ($0.name, $0.shape) }) + store.buffers.map({ ($0.name, $0.shape) }) {
      #expect(try golden.weights.shape(of: name) == shape, "\(name)")
    }
    for buffer in store.buffers {
      #expect(try golden.weights.type(of: buffer.name).isFloatingPoint == !buffer.isCount, "\(buffer.name)")
    }
  }

  @Test(arguments: ["eval", "train"]) func outputsInDouble(mode: String) throws {
    try compareOutputs(Double.self, "f64.\(mode).", Tolerance.double) { abs($0 - $1) <= Tolerance.double * abs($1) }
  }

  @Test(arguments: [("eval", Tolerance.singleEvaluation), ("train", Tolerance.singleTraining)])
  func outputsInSinglePrecision(mode: String, tolerance: Double) throws {
    try compareOutputs(Float.self, "f32.\(mode).", tolerance) { abs($0 - $1) <= Tolerance.singleLoss }
  }

  private func compareOutputs<S: Scalar>(
    _: S.Type, _ prefix: String, _ tolerance: Double, loss isClose: (Double, Double) -> Bool
  ) throws {
    let learner = Learner<S>(model: try golden.model())
    let batch: (images: Tensor<S>, tokens: TokenBatch) = golden.batch(golden.mainBatch)
    let training = prefix.contains("train")
    let loss = try learner.loss(batch, mode: training ? .training : .evaluation)
    let image = learner.model.visual.forward(batch.images, mode: training ? .noGrad : .evaluation, observe: nil)
    let text = learner.model.text.forward(batch.tokens, mode: .evaluation)
    let results = [
      "image_features": image, "text_features": text, "image_features_normalised": ObjectiveScene.unit(image),
      "text_features_normalised": ObjectiveScene.unit(text),
      "logit_scale_exp": Tensor(Shape(1), [S(exp(Double(learner.model.logitScale.value[0])))]),
    ]
    let roles = golden.outputs.names.filter { $0.hasPrefix(prefix) && !$0.contains(".trace.") }
    #expect(Set(roles) == Set((results.keys + ["loss"]).map { prefix + $0 }))
    for (role, result) in results {
      let expected = try golden.outputs.tensor(prefix + role, as: Double.self)
      #expect(result.shape == expected.shape, "\(prefix)\(role)")
      let deviation = Deviation(result.array, from: expected.array)
      #expect(deviation.relative <= tolerance, "\(prefix)\(role): \(deviation)")
    }
    let expected = try golden.outputs.tensor(prefix + "loss", as: Double.self)[0]
    #expect(isClose(loss, expected), "\(prefix)loss is \(loss), expected \(expected)")
  }

  @Test func outputsOfEveryModule() throws {
    let prefix = "f64.train.trace."
    let traces = golden.outputs.names.filter { $0.hasPrefix(prefix + "visual.") }
    try #require(!traces.isEmpty)
    let model: CLIP<Double> = try golden.model()
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = golden.batch(golden.mainBatch)
    var seen: [String: Tensor<Double>] = [:]
    _ = model.visual.forward(batch.images, mode: .training) { seen[$0] = Tensor($1.shape, $1.array) }
    for trace in traces {
      let module = String(trace.dropFirst(prefix.count))
      let expected = try golden.outputs.tensor(trace, as: Double.self)
      let found = try #require(seen[module], "\(module) is not observed")
      let shape = expected.shape
      #expect(found.shape.array.dropFirst() == [shape[2], shape[3], shape[1]], "\(module)")
      // Ours has the channels last, and all images of the batch.
      let (points, channels) = (shape[2] * shape[3], shape[1])
      let turned = (0..<shape.count).map { index in
        let (image, point) = (index / (points * channels), index / channels % points)
        return expected[(image * channels + index % channels) * points + point]
      }
      let deviation = Deviation(found.array.prefix(shape.count), from: turned)
      #expect(deviation.relative <= Tolerance.double, "\(module): \(deviation)")
    }
  }

  @Test func runningStatisticsAfterOneBatch() throws {
    let prefix = "f64.running_after_one."
    let model: CLIP<Double> = try golden.model()
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = golden.batch(golden.mainBatch)
    _ = model.visual.forward(batch.images, mode: .training)
    try model.visual.moveStatistics()
    let buffers = model.parameters.buffers
    #expect(Set(buffers.map { prefix + $0.name }) == Set(golden.outputs.names.filter { $0.hasPrefix(prefix) }))
    for buffer in buffers {
      let value = model.parameters.value(of: buffer).array
      if buffer.isCount {
        #expect(try golden.outputs.integers(prefix + buffer.name).map(Double.init) == value, "\(buffer.name)")
      } else {
        let deviation = Deviation(value, from: try golden.outputs.tensor(prefix + buffer.name, as: Double.self).array)
        #expect(deviation.relative <= Tolerance.double, "\(buffer.name): \(deviation)")
      }
    }
  }

  // MARK: gradients

  @Test func gradientsInDouble() throws { try compareGradients(Double.self, Tolerance.rounded) }
  @Test func gradientsInSinglePrecision() throws { try compareGradients(Float.self, Tolerance.singleGradients) }

  private func compareGradients<S: Scalar>(_: S.Type, _ tolerance: Double) throws {
    let learner = Learner<S>(model: try golden.model())
    _ = try learner.accumulate(golden.batch(golden.mainBatch))
    let expected = try SafetensorsFile(golden.file("grads_f64_run.safetensors"))
    let store = learner.model.parameters
    #expect(Set(expected.names) == Set(store.entries.map(\.name)))
    for entry in store.entries {
      let gradient = try expected.tensor(entry.name, as: Double.self)
      let deviation = Deviation(store.gradient(of: entry).array, from: gradient.array)
      if entry.name == Self.keyBias {
        #expect(deviation.absolute <= Tolerance.zeroGradient, "\(entry.name): \(deviation)")
      } else {
        #expect(deviation.relative <= tolerance, "\(entry.name): \(deviation)")
      }
    }
  }
}
