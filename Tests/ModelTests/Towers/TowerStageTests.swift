import Model
import Tensor
import TestSupport
import Testing

/// Each stage of a forward reads only parameters that were announced.
@Suite struct TowerStageTests {
  static let configs = [
    CLIPConfig(
      embedding: 12, vision: VisionConfig(imageSize: 16, patchSize: 8, width: 32, layers: 3, headWidth: 16),
      text: TextConfig(contextLength: 6, vocabularySize: 50, width: 24, heads: 2, layers: 2)),
    CLIPConfig(
      embedding: 12, vision: VisionConfig(imageSize: 32, stages: [1, 2, 1, 1], width: 8, headWidth: 32),
      text: TextConfig(contextLength: 6, vocabularySize: 51, width: 24, heads: 2, layers: 1)),
  ]

  @Test(arguments: configs) func everyParameterHasOnePlace(config: CLIPConfig) {
    let model = CLIP<Float>(config, frozen: true)
    #expect(CLIP<Float>.stages(config) == model.visual.stages.extents + model.text.stages.extents)
    let places = CLIP<Float>.stages(config).joined() + [model.text.tokenEmbedding.extent, model.logitScale.extent]
    var end = 0
    for place in places.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      #expect(place.lowerBound == end && !place.isEmpty)
      end = place.upperBound
    }
    #expect(end == model.parameters.count)
  }

  /// Parameters are NaN before their stage is announced, and become NaN after it.
  @Test(arguments: configs) func aForwardReadsWhatIsAnnounced(config: CLIPConfig) throws {
    let whole = CLIP<Float>(config, frozen: true)
    whole.initialize(seed: 4)
    let lent = CLIP<Float>(config, frozen: true)
    fill(lent.parameters.values, .nan)
    copy(whole.text.tokenEmbedding.value, into: lent.text.tokenEmbedding.value)
    var announced: [[Int]] = [[], []]
    for (tower, stages) in [lent.visual.stages, lent.text.stages].enumerated() {
      stages.willRun = { stage in
        announced[tower].append(stage)
        if stage > 0 {
          for range in stages.extents[stage - 1] { fill(lent.parameters.values.slice(range), .nan) }
        }
        for range in stages.extents[stage] {
          copy(whole.parameters.values.slice(range), into: lent.parameters.values.slice(range))
        }
      }
    }
    let size = config.vision.imageSize
    let images = Tensor<Float>(Shape(2, 3, size, size))
    var random = KeyedRandom(seed: 4, purpose: "pictures")
    for index in 0..<images.count { images[index] = Float(random.normal()) }
    let captions = TokenBatch([[48, 3, 49], [48, 7, 8, 9, 49]])
    #expect(
      lent.visual.forward(images, mode: .evaluation).array == whole.visual.forward(images, mode: .evaluation).array)
    #expect(
      lent.text.forward(captions, mode: .evaluation).array == whole.text.forward(captions, mode: .evaluation).array)
    let blocks = config.vision.stages.map { $0.reduce(0, +) } ?? config.vision.layers
    #expect(announced == [Array(0..<blocks + 2), Array(0..<config.text.layers + 2)])
  }

  /// No gradient changes after its stage was reported as ready, in any of several backwards. Each backward reports
  /// every stage once, the last one first.
  @Test(arguments: configs) func aBackwardLeavesAloneWhatIsReady(config: CLIPConfig) {
    let model = CLIP<Float>(config)
    model.initialize(seed: 4)
    let gradients = model.parameters.gradients
    var ready: [[Int]] = [[], []]
    var taken: [Range<Int>: [Float]] = [:]
    for (tower, stages) in [model.visual.stages, model.text.stages].enumerated() {
      stages.gradientsReady = { stage in
        ready[tower].append(stage)
        for range in stages.extents[stage] { taken[range] = gradients.slice(range).array }
        if tower == 1, stage == 0 {
          taken[model.text.tokenEmbedding.extent] = gradients.slice(model.text.tokenEmbedding.extent).array
        }
      }
    }
    let size = config.vision.imageSize
    let images = Tensor<Float>.random(Shape(2, 3, size, size), "pictures")
    let captions = TokenBatch([[48, 3, 49], [48, 7, 8, 9, 49]])
    for pass in 1...2 {
      ready = [[], []]
      _ = model.text.forward(captions, mode: .training)
      model.text.backward(.random(Shape(2, config.embedding), "captions' gradients"))
      _ = model.visual.forward(images, mode: .training)
      model.visual.backward(.random(Shape(2, config.embedding), "pictures' gradients"))
      let blocks = config.vision.stages.map { $0.reduce(0, +) } ?? config.vision.layers
      #expect(ready == [(0..<blocks + 2).reversed(), (0..<config.text.layers + 2).reversed()])
      // All but the logit scale.
      #expect(taken.keys.reduce(0) { $0 + $1.count } == model.parameters.count - 16)
      for (range, numbers) in taken { #expect(gradients.slice(range).array == numbers, "\(pass): \(range)") }
      #expect(taken.values.contains { $0.contains { $0 != 0 } })
    }
  }
}
