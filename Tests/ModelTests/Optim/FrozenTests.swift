import Model
import Tensor
import TestSupport
import Testing

/// Frozen parameters do not change, and the others change as if the gradients of the frozen ones were 0.
@Suite struct FrozenTests {
  private static let config = CLIPConfig(
    embedding: 6, vision: VisionConfig(imageSize: 8, patchSize: 4, width: 8, layers: 2, headWidth: 4),
    text: TextConfig(contextLength: 6, vocabularySize: 11, width: 8, heads: 2, layers: 2))

  private static func names(_ isFrozen: (String) -> Bool) -> Set<String> {
    Set(CLIP<Double>.layout(config).entries.map(\.name).filter(isFrozen))
  }

  @Test func wholeTowersAndPlaces() {
    let layout = CLIP<Double>.layout(Self.config)
    #expect(Frozen.none.isEmpty && !Frozen.none.covers(0..<1))
    let image = Frozen(Self.names { $0.hasPrefix("visual.") }, in: layout)
    #expect(image.image && !image.text && !image.logitScale && !image.isEmpty)
    let most = Frozen(Self.names { $0 != "visual.proj" }, in: layout)
    #expect(!most.image && most.text && most.logitScale)
    for entry in layout.entries {
      #expect(image.contains(entry.name) == entry.name.hasPrefix("visual."))
      #expect(image.covers(entry.extent) == entry.name.hasPrefix("visual."))
    }
    let last = layout.entries.last { $0.name.hasPrefix("visual.") }?.extent.upperBound ?? 0
    #expect(image.covers(0..<last) && !image.covers(0..<last + 1))
  }

  /// The bounds of ranges lie inside frozen parameters, whose gradients are not 0; the result is equal bit for bit.
  @Test(arguments: [1, 2, 5]) func aRankUpdatesWhatIsNotFrozen(parts: Int) {
    let isFrozen = { (name: String) in name.hasPrefix("visual.transformer.resblocks.1.") || name == "ln_final.weight" }
    func model() -> CLIP<Float> {
      let model = CLIP<Float>(Self.config)
      model.initialize(seed: 3)
      copy(Tensor<Float>.random(Shape(model.parameters.count), "gradient"), into: model.parameters.gradients)
      return model
    }
    let (free, still) = (model(), model())
    let before = still.parameters.values.array
    let frozen = Frozen(Self.names(isFrozen), in: still.parameters)
    let options = AdamW<Float>.Options(decay: 0.3)
    let whole = AdamW(free.parameters, options)
    let count = still.parameters.count
    let optimizers = (0..<parts).map { part in
      AdamW(
        still.parameters, options, ranges: [part * count / parts..<(part + 1) * count / parts], frozen: frozen)
    }
    for _ in 0..<3 {
      whole.update(free.parameters.values, gradient: free.parameters.gradients, learningRate: 0.1)
      for optimizer in optimizers {
        let own = still.parameters.gradients.slice(optimizer.ranges[0])
        optimizer.clearFrozen(own)
        optimizer.update(still.parameters.values, gradient: own, learningRate: 0.1)
      }
    }
    let moments = optimizers.flatMap { $0.firstMoment.array }
    for entry in still.parameters.entries {
      let (value, gradient) = (still.parameters.value(of: entry).array, still.parameters.gradient(of: entry).array)
      if isFrozen(entry.name) {
        #expect(value == Array(before[entry.range]), "\(entry.name)")
        #expect(gradient.allSatisfy { $0 == 0 } && moments[entry.range].allSatisfy { $0 == 0 }, "\(entry.name)")
      } else {
        #expect(value == free.parameters.value(of: entry).array && value != Array(before[entry.range]), "\(entry.name)")
      }
    }
  }

  /// Compares steps in Double that leave frozen parameters out of backward with steps that clear their gradients and
  /// decay.
  @Test(arguments: [
    ["visual."], ["t", "positional_embedding", "ln_final"],
    ["visual.conv1", "visual.transformer.resblocks.0", "token_embedding"],
  ]) func isTheRunWithGradientsOfZero(prefixes: [String]) throws {
    let frozen = Frozen(
      Self.names { name in prefixes.contains { name.hasPrefix($0) } }, in: CLIP<Double>.layout(Self.config))
    let (short, long) = (try train(frozen, leavesOut: true), try train(frozen, leavesOut: false))
    #expect(short == long)
    #expect(prefixes.count == 3 || frozen.image != frozen.text)
  }

  private func train(_ frozen: Frozen, leavesOut: Bool) throws -> [[Double]] {
    let (model, objective) = CLIP<Double>.student(Self.config, ObjectiveOptions(), teacherWidth: nil)
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 9)
    let options = AdamW<Double>.Options(decay: 0)
    let optimizer = AdamW(model.parameters, options, frozen: leavesOut ? frozen : .none)
    let images = Tensor<Double>.random(Shape(4, 3, 8, 8), "pictures")
    let captions: [[Int32]] = [[1, 2, 10], [3, 10], [4, 5, 6, 10], [7, 10]]
    var norms: [Double] = []
    for _ in 0..<4 {
      let parameters = model.parameters
      fill(parameters.gradients, 0)
      let image = model.visual.forward(images, mode: leavesOut && frozen.image ? .evaluation : .training)
      let text = model.text.forward(TokenBatch(captions), mode: leavesOut && frozen.text ? .evaluation : .training)
      _ = try objective.accumulate(
        image: image, text: text, rows: 0..<4, count: 4, logitScale: model.logitScale, teacherScale: nil,
        ranks: SingleRank())
      let (dimage, dtext) = objective.rawGradients()
      if !(leavesOut && frozen.text) { model.text.backward(dtext) }
      if !(leavesOut && frozen.image) { model.visual.backward(dimage) }
      if leavesOut {
        optimizer.clearFrozen(parameters.gradients)
      } else {
        for entry in parameters.entries where frozen.contains(entry.name) { fill(parameters.gradient(of: entry), 0) }
      }
      let norm = sumOfSquares(parameters.gradients).squareRoot()
      norms.append(norm)
      optimizer.update(
        parameters.values, gradient: parameters.gradients, learningRate: 0.01,
        gradientScale: clipFactor(norm: norm, limit: 0.5)
      )
    }
    return [norms, model.parameters.values.array]
  }
}
