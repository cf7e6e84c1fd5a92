import Tensor
import TestSupport
import Testing

@testable import Model

/// What a model that is being pruned takes is counted exactly.
@Suite struct MaskMemoryTests {
  private static let sizes = SmallModels.all[2]

  /// Returns the bytes of all numbers that are reachable from an object, each counted once.
  private static func held(by object: Any) -> Int {
    bytesHeld(by: object) { object in
      if let arena = object as? Arena<Float> { return 4 * arena.count }
      if let arena = object as? Arena<Double> { return 8 * arena.count }
      return nil
    }
  }

  /// The memory of a forward and backward with masks, less that of one without, is what `trainingBytes` says.
  @Test(arguments: ComputePrecision.allCases, Towers.allCases)
  func ofTraining(_ precision: ComputePrecision, _ towers: Towers) {
    let (sizes, layout) = (Self.sizes, MaskLayout(Self.sizes.config, towers: towers))
    func pass(_ model: CLIP<Float>) {
      let batch: (images: Tensor<Float>, tokens: TokenBatch) = SmallModels.batch(sizes)
      let gradient = Tensor<Float>(Shape(sizes.lengths.count, sizes.embedding))
      _ = model.visual.forward(batch.images, mode: .training)
      _ = model.text.forward(batch.tokens, mode: .training)
      model.visual.backward(gradient)
      model.text.backward(gradient)
    }
    func model() -> CLIP<Float> {
      let model = CLIP<Float>(sizes.config, precision: precision)
      model.initialize(seed: 5)
      return model
    }
    let plain = model()
    pass(plain)
    let training = MaskTraining(
      model(), layout, .init(sparsity: 0.5, start: 0, ramp: 1, learningRate: 0.05, seed: 3))
    // One hidden unit of each tower is masked, so layer norms look at all but one.
    var masks = [Double](repeating: 0.5, count: layout.count)
    for tower in layout.towers { masks[tower.hidden.lowerBound] = 0 }
    training.masked.apply(masks)
    pass(training.masked.model)
    _ = training.masked.remove()

    let rows = (image: sizes.lengths.count * sizes.vision.tokens, text: sizes.lengths.reduce(0, +))
    let counted = layout.trainingBytes(plain.parameters, rows: rows, precision: precision)
    // Not in arenas: the drawn masks, their slopes and gradients. Not held: the columns of the masked units.
    let unheld = layout.towers.reduce(0) { $0 + 4 * (3 * ($1.prefix.isEmpty ? rows.text : rows.image) + 4) }
    let found = Self.held(by: training) - Self.held(by: plain)
    #expect(found == counted - 3 * 8 * layout.count - unheld)
    #expect(found > 4 * plain.parameters.count)
  }

  /// A cut of half of the MLP units leaves as many parameters as was said, but for the biases, which the sparsity does
  /// not count.
  @Test func remainingParameters() {
    let (config, layout) = (Self.sizes.config, MaskLayout(Self.sizes.config, towers: .both))
    var masks = [Double](repeating: 1, count: layout.count)
    for range in layout.towers.flatMap(\.units) {
      for index in range.prefix(range.count / 2) { masks[index] = 0 }
    }
    let whole = CLIP<Float>.layout(config).parameterCount
    let cut = CLIP<Float>.layout(layout.cut(config, masks)).parameterCount
    let biases = masks.count { $0 == 0 }
    #expect(biases > 0 && cut < whole)
    #expect(layout.remaining(of: whole, sparsity: Masks(layout).sparsity(of: masks)) == cut + biases)
    #expect(layout.remaining(of: whole, sparsity: 0) == whole)
  }
}
