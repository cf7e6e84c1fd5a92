import Tensor
import TestSupport
import Testing

@testable import Model

/// `bufferBytes` equals the bytes of the layers' buffers, which are found by walking through the tower.
@Suite struct TowerMemoryTests {
  /// Returns the bytes in all buffers of Float and bfloat16 that are reachable from an object, each counted once.
  private static func held(by object: Any) -> Int {
    bytesHeld(by: object) { object in
      if let buffer = object as? Buffer<Float> { return buffer.bytes }
      if let buffer = object as? BFloat16Buffer { return buffer.bytes }
      return object is ParameterStore<Float> ? 0 : nil
    }
  }

  private static let plain = VisionConfig(imageSize: 32, patchSize: 8, width: 48, layers: 3, headWidth: 16)
  private static let single = VisionConfig(imageSize: 32, patchSize: 8, width: 48, layers: 1, headWidth: 16)
  /// The last block is the widest, and wider than the tower.
  private static let pruned: VisionConfig = {
    var config = Self.plain
    config.blocks = BlockSizes(
      headWidth: 16, heads: [2, 1, 5], hidden: [70, 50, 900], fullWidth: 80, fullHeads: 5, fullHidden: 900)
    return config
  }()
  private static let dropping: VisionConfig = {
    var config = Self.plain
    config.patchDropout = 0.2
    return config
  }()
  private static let residual = VisionConfig(imageSize: 64, stages: [1, 2, 1, 1], width: 16)
  private static let text = TextConfig(contextLength: 12, vocabularySize: 90, width: 32, heads: 4, layers: 2)

  private static let choices = Recompute.allCases.flatMap { recompute in
    ComputePrecision.allCases.map { (recompute, $0) }
  }

  private static let towers = [
    (plain, 1), (plain, 3), (single, 3), (pruned, 3), (dropping, 3), (residual, 1), (residual, 3),
  ]

  @Test(arguments: choices, towers)
  func images(_ choice: (recompute: Recompute, precision: ComputePrecision), _ size: (vision: VisionConfig, count: Int))
  {
    let (recompute, precision) = choice
    let (vision, b) = size
    let config = CLIPConfig(embedding: 24, vision: vision, text: Self.text)
    func expected(_ use: TowerUse) -> Int {
      vision.bufferBytes(
        images: b, embedding: 24, threads: Threads.count, use: use, recompute: recompute, precision: precision)
    }
    func model(frozen: Bool) -> CLIP<Float> {
      let model = CLIP<Float>(config, frozen: frozen, precision: precision, recompute: recompute)
      model.initialize(seed: 1)
      return model
    }
    let images = Tensor<Float>(Shape(b, 3, vision.imageSize, vision.imageSize))
    let gradient = Tensor<Float>(Shape(b, 24))
    let tokens = (0..<b).flatMap { vision.keptTokens(KeyedRandom(seed: 1, purpose: "patches", UInt64($0))) }
    let kept = vision.patchDropout > 0 ? tokens[...] : nil

    let frozen = model(frozen: true)
    _ = frozen.visual.forward(images, mode: .evaluation, observe: nil)
    #expect(Self.held(by: frozen.visual) == expected(.forward))

    let trained = model(frozen: false)
    _ = trained.visual.forward(images, kept: kept, mode: .training, observe: nil)
    trained.visual.backward(gradient)
    #expect(Self.held(by: trained.visual) == expected(.training))

    let pieces = model(frozen: false)
    _ = pieces.visual.forward(images, kept: kept, mode: .noGrad, observe: nil)
    _ = pieces.visual.forward(images, kept: kept, mode: .training, observe: nil)
    pieces.visual.backward(gradient)
    #expect(Self.held(by: pieces.visual) == expected(.trainingInPieces))
    #expect(expected(.training) > expected(.forward) && expected(.trainingInPieces) > expected(.training))
  }

  @Test(arguments: choices) func captions(_ recompute: Recompute, _ precision: ComputePrecision) {
    let config = CLIPConfig(embedding: 24, vision: Self.plain, text: Self.text)
    let captions: [[Int32]] = [[1, 5, 89], [1, 2, 3, 4, 5, 6, 89], [1, 89]]
    func expected(_ use: TowerUse) -> Int {
      Self.text.bufferBytes(
        captions: (count: 3, tokens: 12, longest: 7), embedding: 24, threads: Threads.count, use: use,
        recompute: recompute, precision: precision)
    }
    let frozen = CLIP<Float>(config, frozen: true, precision: precision, recompute: recompute)
    _ = frozen.text.forward(TokenBatch(captions), mode: .evaluation)
    #expect(Self.held(by: frozen.text) == expected(.forward))
    let trained = CLIP<Float>(config, precision: precision, recompute: recompute)
    _ = trained.text.forward(TokenBatch(captions), mode: .training)
    trained.text.backward(Tensor(Shape(3, 24)))
    #expect(Self.held(by: trained.text) == expected(.training))
    let pieces = CLIP<Float>(config, precision: precision, recompute: recompute)
    _ = pieces.text.forward(TokenBatch(captions), mode: .evaluation)
    _ = pieces.text.forward(TokenBatch(captions), mode: .training)
    pieces.text.backward(Tensor(Shape(3, 24)))
    #expect(Self.held(by: pieces.text) == expected(.trainingInPieces))
  }
}
