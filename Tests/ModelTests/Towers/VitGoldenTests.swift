import Dist
import Foundation
import Tensor
import TestSupport
import Testing

@testable import Model

/// The towers, the loss, every gradient and AdamW are those of open_clip and PyTorch.
@Suite struct VitGoldenTests {
  /// The tolerances of the set's README, relative to the largest number of a tensor unless they are called absolute.
  enum Tolerance {
    static let double = 1e-9
    static let rounded = 1e-6
    static let singleFeatures = 5e-6
    static let singleLoss = 5e-6
    static let singleGradients = 2e-5
    static let singleLosses = 2e-5
    static let singleParameters = 2e-6
    static let singleKeyBias = 5e-4
  }

  let golden: TowerGoldenSet
  init() throws { golden = try TowerGoldenSet("vit") }

  @Test func namesAndShapes() throws {
    let model: CLIP<Float> = try golden.model()
    #expect(Set(model.parameters.entries.map(\.name)) == Set(golden.weights.names))
    for entry in model.parameters.entries {
      #expect(try golden.weights.shape(of: entry.name) == entry.shape, "\(entry.name)")
    }
  }

  // MARK: features and loss

  /// Returns the prefixes of `image_features` in the names of the outputs: a precision and, for some, a variant.
  private func variants(of precision: String) -> [(prefix: String, config: String)] {
    golden.outputs.names.filter { $0.hasPrefix("\(precision).") && $0.hasSuffix(".image_features") }.map { name in
      let parts = name.split(separator: ".").dropFirst().dropLast()
      return (String(name.dropLast("image_features".count)), parts.map { "_\($0)" }.joined())
    }
  }

  @Test func outputsInDouble() throws {
    try compareOutputs(Double.self, "f64", features: Tolerance.double) { loss, expected in
      abs(loss - expected) <= Tolerance.double * abs(expected)
    }
  }

  @Test func outputsInSinglePrecision() throws {
    try compareOutputs(Float.self, "f32", features: Tolerance.singleFeatures) { loss, expected in
      abs(loss - expected) <= Tolerance.singleLoss
    }
  }

  private func compareOutputs<S: Scalar>(
    _: S.Type, _ precision: String, features tolerance: Double, loss isClose: (Double, Double) -> Bool
  ) throws {
    let variants = variants(of: precision)
    try #require(!variants.isEmpty)
    for (prefix, config) in variants {
      let learner = Learner<S>(model: try golden.model(config))
      let batch: (images: Tensor<S>, tokens: TokenBatch) = golden.batch(golden.mainBatch)
      let loss = try learner.loss(batch)
      let image = learner.model.visual.forward(batch.images, mode: .evaluation)
      let text = learner.model.text.forward(batch.tokens, mode: .evaluation)
      let results = [
        "image_features": image, "text_features": text,
        "image_features_normalised": ObjectiveScene.unit(image), "text_features_normalised": ObjectiveScene.unit(text),
        "logit_scale_exp": Tensor(Shape(1), [S(exp(Double(learner.model.logitScale.value[0])))]),
      ]
      for (role, result) in results {
        let expected = try golden.outputs.tensor(prefix + role, as: Double.self)
        #expect(result.shape == expected.shape, "\(prefix)\(role)")
        let deviation = Deviation(result.array, from: expected.array)
        #expect(deviation.relative <= tolerance, "\(prefix)\(role): \(deviation)")
      }
      let expected = try golden.outputs.tensor(prefix + "loss", as: Double.self)[0]
      #expect(isClose(loss, expected), "\(prefix)loss is \(loss), expected \(expected)")
    }
  }

  // MARK: traces

  @Test func outputsOfEveryModule() throws {
    let traces = golden.outputs.names.filter { $0.hasPrefix("f64.trace.") }
    try #require(!traces.isEmpty)
    let count = try golden.outputs.shape(of: traces[0])[0]
    let model: CLIP<Double> = try golden.model()
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = golden.batch(Array(0..<count))
    let seen = try observe(model, batch)
    for trace in traces {
      let module = String(trace.dropFirst("f64.trace.".count))
      let all = try golden.outputs.tensor(trace, as: Double.self)
      guard let found = seen[module] else {
        Issue.record("\(module) is not observed")
        continue
      }
      let text = !module.hasPrefix("visual.")
      // Captions are packed: of the padded rows those up to the end of text are compared.
      let expected = text ? packed(all, batch.tokens.sequences) : all.array
      let deviation = Deviation(found.array, from: expected)
      #expect(deviation.relative <= Tolerance.double, "\(module): \(deviation)")
    }
  }

  /// The output of every module under its name.
  private func observe(
    _ model: CLIP<Double>, _ batch: (images: Tensor<Double>, tokens: TokenBatch)
  ) throws -> [String: Tensor<Double>] {
    let visual = try #require(model.visual as? VisionTransformer<Double>)
    var seen: [String: Tensor<Double>] = [:]
    let keep: (String, Tensor<Double>) -> Void = { seen[$0] = Tensor($1.shape, $1.array) }
    _ = visual.forward(batch.images, mode: .training, observe: keep)
    _ = model.text.forward(batch.tokens, mode: .training, observe: keep)
    // The towers read one row of each sequence, of which alone they compute the last blocks and norms; here all rows
    // run through them.
    let (captions, before) = (batch.tokens.sequences, try #require(seen["visual.ln_pre"]))
    let images = Sequences(count: captions.count, length: visual.config.tokens)
    let embedded = Tensor<Double>(Shape(captions.total, model.text.config.width))
    embed(
      batch.tokens.ids, captions, table: model.text.tokenEmbedding.value, positions: model.text.positions.value,
      into: embedded)
    for (name, tower, x, sequences, rows) in [
      ("visual.transformer", visual.transformer, before, images, images.firsts),
      ("transformer", model.text.transformer, embedded, captions, captions.lasts),
    ] {
      let last = "\(name).resblocks.\(tower.blocks.count - 1)"
      let (whole, found) = (tower.forward(x, sequences, mode: .training), try #require(seen[last]))
      let read = Tensor<Double>(Shape(rows.count, whole.columns))
      gatherRows(whole, rows, into: read)
      let deviation = Deviation(found.array, from: read.array)
      #expect(deviation.relative <= Tolerance.double, "\(last): \(deviation)")
      seen[last] = whole
      let (norm, head) = name == "transformer" ? ("ln_final", model.text.head) : ("visual.ln_post", visual.head)
      seen[norm] = normed(whole, head.norm)
    }
    seen["visual.conv1"] = convolution(batch.images, visual.convolution.value)
    return seen
  }

  private func normed(_ x: Tensor<Double>?, _ norm: LayerNorm<Double>) -> Tensor<Double>? {
    guard let x else { return nil }
    let y = Tensor<Double>(x.shape)
    norm.forward(x, into: .fp32(y), activations: LayerNorm.Activations())
    return y
  }

  /// The patch embedding as a convolution gives it, [b, w, g, g].
  private func convolution(_ images: Tensor<Double>, _ kernel: Tensor<Double>) -> Tensor<Double> {
    let (b, w, p) = (images.shape[0], kernel.shape[0], kernel.shape[2])
    let grid = (images.shape[2] / p) * (images.shape[3] / p)
    let rows = Tensor<Double>(Shape(b * grid, kernel.count / w))
    patches(of: images, size: p, into: .fp32(rows))
    let y = Tensor<Double>(Shape(b, w, grid))
    for image in 0..<b {
      matmul(
        kernel.reshaped(Shape(w, kernel.count / w)), rows.rows(image * grid..<(image + 1) * grid),
        into: y.rows(image * w..<(image + 1) * w), transposeB: true)
    }
    return y
  }

  private func packed(_ padded: Tensor<Double>, _ sequences: Sequences) -> [Double] {
    let context = padded.shape[1]
    return (0..<sequences.count).flatMap { index in
      padded.rows(index * context..<index * context + sequences[index].count).array
    }
  }

  // MARK: gradients

  @Test func gradientsInDouble() throws {
    try compareGradients(Double.self, "grads_f64_run", Tolerance.double)
  }

  @Test func gradientsInSinglePrecision() throws {
    try compareGradients(Float.self, "grads_f32_run", Tolerance.singleGradients)
  }

  private func compareGradients<S: Scalar>(_: S.Type, _ file: String, _ tolerance: Double) throws {
    let learner = Learner<S>(model: try golden.model())
    _ = try learner.accumulate(golden.batch(golden.mainBatch))
    let expected = try SafetensorsFile(golden.file("\(file).safetensors"))
    let store = learner.model.parameters
    #expect(Set(expected.names) == Set(store.entries.map(\.name)))
    for entry in store.entries {
      let gradient = try expected.tensor(entry.name, as: Double.self)
      let deviation = Deviation(store.gradient(of: entry).array, from: gradient.array)
      #expect(deviation.relative <= tolerance, "\(entry.name): \(deviation)")
    }
  }
}
