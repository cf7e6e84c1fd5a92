import Tensor
import TestSupport
import Testing

@testable import Model

/// A whole ModifiedResNet: gradients, modes, and when its running statistics move.
@Suite struct ResNetTowerTests {
  struct Sizes: Sendable, CustomTestStringConvertible {
    let imageSize: Int
    let stages: [Int]
    let width: Int
    let headWidth: Int
    let images: Int
    var testDescription: String { "\(images) of \(imageSize) px, \(stages), \(width) wide" }

    var model: CLIP<Double> {
      let config = CLIPConfig(
        embedding: 3, vision: VisionConfig(imageSize: imageSize, stages: stages, width: width, headWidth: headWidth),
        text: TextConfig(contextLength: 3, vocabularySize: 5, width: 2, heads: 1, layers: 1))
      let model = CLIP<Double>(config)
      model.parameters.shake()
      return model
    }

    func images(_ name: String = "images", _ count: Int? = nil) -> Tensor<Double> {
      .random(Shape(count ?? images, 3, imageSize, imageSize), name, bound: 2)
    }
  }

  static let sizes = [
    // Odd sizes on the way down: 37, 19, 9, 4, 2, 1.
    Sizes(imageSize: 37, stages: [1, 1, 1, 1], width: 3, headWidth: 96, images: 3),
    Sizes(imageSize: 64, stages: [1, 2, 1, 1], width: 2, headWidth: 16, images: 2),
    Sizes(imageSize: 32, stages: [2, 1, 1, 2], width: 2, headWidth: 64, images: 5),
  ]

  /// Differences of so small a step h that hardly a ReLU turns within it. The value is rounded to about κ ε F, with F
  /// the sum of its parts' sizes and κ the roundings that do not cancel, of which a difference shows κ ε F / h.
  @Test(arguments: sizes) func gradients(_ sizes: Sizes) throws {
    let model = sizes.model
    let images = sizes.images()
    let weights = Tensor<Double>.random(Shape(sizes.images, 3), "weights")
    let features = model.visual.forward(images, mode: .training)
    let size = zip(features.array, weights.array).reduce(0) { $0 + abs($1.0 * $1.1) }
    model.visual.backward(weights)
    func value() -> Double {
      dot(model.visual.forward(images, mode: .noGrad, observe: nil), weights)
    }
    let h = 0x1p-24
    let rounding = 32 * Double.ulpOfOne * size / h
    let entries = model.parameters.entries.filter { $0.name.hasPrefix("visual.") }
    for entry in entries where !entry.name.hasSuffix("k_proj.bias") {
      let (x, gradient) = (model.parameters.value(of: entry), model.parameters.gradient(of: entry).array)
      let largest = gradient.map { abs($0) }.max() ?? 0
      #expect(largest > 100 * rounding, "\(entry.name) has no gradient that could be told from \(rounding)")
      var random = KeyedRandom(seed: 1, purpose: entry.name)
      for index in (0..<3).map({ _ in random.below(x.count) }) {
        let before = x[index]
        x[index] = before + h
        let above = value()
        x[index] = before - h
        let slope = (above - value()) / (2 * h)
        x[index] = before
        let error = abs(slope - gradient[index])
        #expect(error <= 1e-6 * largest + rounding, "\(entry.name)[\(index)] is \(gradient[index]), measured \(slope)")
      }
    }
  }

  @Test func gradientsAreAdded() {
    let sizes = Self.sizes[1]
    let model = sizes.model
    let weights = Tensor<Double>.random(Shape(sizes.images, 3), "weights")
    _ = model.visual.forward(sizes.images(), mode: .training)
    model.visual.backward(weights)
    let once = model.parameters.gradients.array
    _ = model.visual.forward(sizes.images(), mode: .training)
    model.visual.backward(weights)
    let deviation = Deviation(model.parameters.gradients.array, from: once.map { 2 * $0 })
    #expect(deviation.relative <= 1e-14, "\(deviation)")
  }

  /// Buffers are used again by batches of other sizes and in other modes; what they held must not matter.
  @Test func aBatchDoesNotRememberTheOneBefore() throws {
    let sizes = Self.sizes[2]
    let (fresh, used) = (sizes.model, sizes.model)
    _ = used.visual.forward(sizes.images("others", 7), mode: .training)
    used.visual.backward(.random(Shape(7, 3), "weights"))
    _ = used.visual.forward(sizes.images("others", 4), mode: .evaluation)
    fill(used.parameters.gradients, 0)
    let outputs = [fresh, used].map { $0.visual.forward(sizes.images(), mode: .training).array }
    for model in [fresh, used] { model.visual.backward(.random(Shape(sizes.images, 3), "weights")) }
    #expect(outputs[0] == outputs[1])
    #expect(fresh.parameters.gradients.array == used.parameters.gradients.array)
  }

  @Test func rehearsalIsTrainingThatKeepsNothing() throws {
    let sizes = Self.sizes[0]
    let model = sizes.model
    let training = model.visual.forward(sizes.images(), mode: .training, observe: nil).array
    try model.visual.moveStatistics()
    let moved = model.parameters.bufferValues.array
    #expect(model.visual.forward(sizes.images(), mode: .noGrad, observe: nil).array == training)
    #expect(model.visual.forward(sizes.images(), mode: .evaluation, observe: nil).array != training)
    try model.visual.moveStatistics()
    #expect(model.parameters.bufferValues.array == moved, "only what was trained on moves them")
  }

  /// An image's features do not depend on the others beside it, other than in training.
  @Test func evaluationIsImageByImage() throws {
    let sizes = Self.sizes[2]
    let model = sizes.model
    let images = sizes.images()
    let one = images.slice(0..<images.count / sizes.images).reshaped(Shape(1, 3, sizes.imageSize, sizes.imageSize))
    for mode: ForwardMode in [.evaluation, .training] {
      let all = model.visual.forward(images, mode: mode).rows(0..<1).array
      let deviation = Deviation(model.visual.forward(one, mode: mode).array, from: all)
      let isSame = deviation.relative <= 1e-12
      #expect(isSame != mode.keeps, "\(deviation)")
    }
  }

  /// Two micro-batches move running statistics once, to the mean, weighted by rows, of their separate moves.
  @Test func microBatchesMoveStatisticsOnce() throws {
    let sizes = Self.sizes[1]
    let (both, first, second) = (sizes.model, sizes.model, sizes.model)
    for (model, chunks) in [(both, [("a", 3), ("b", 2)]), (first, [("a", 3)]), (second, [("b", 2)])] {
      for (name, count) in chunks { _ = model.visual.forward(sizes.images(name, count), mode: .training) }
      try model.visual.moveStatistics()
    }
    for buffer in both.parameters.buffers {
      let (found, a, b) = (
        both.parameters.value(of: buffer).array, first.parameters.value(of: buffer).array,
        second.parameters.value(of: buffer).array
      )
      let expected = buffer.isCount ? [1] : zip(a, b).map { (3 * $0 + 2 * $1) / 5 }
      #expect(Deviation(found, from: expected).absolute <= 1e-13, "\(buffer.name)")
    }
  }

  /// With one point per channel the variance is 0, and nothing is divided by it.
  @Test func oneImageOfOnePoint() throws {
    let sizes = Sizes(imageSize: 32, stages: [1, 1, 1, 1], width: 2, headWidth: 64, images: 1)
    let model = sizes.model
    #expect(model.visual.forward(sizes.images(), mode: .training).array.allSatisfy { $0.isFinite })
    model.visual.backward(.random(Shape(1, 3), "weights"))
    try model.visual.moveStatistics()
    #expect(model.parameters.gradients.array.allSatisfy { $0.isFinite })
    #expect(model.parameters.bufferValues.array.allSatisfy { $0.isFinite })
  }

  @Test func aFeatureThatIsNotANumberStaysNone() {
    let sizes = Self.sizes[0]
    let (model, images) = (sizes.model, sizes.images())
    images[images.count / 2] = .nan
    let features = model.visual.forward(images, mode: .evaluation)
    #expect(features.rows(0..<1).array.allSatisfy { $0.isFinite } && features.rows(1..<2).array.contains { $0.isNaN })
  }

  /// Batch norm uses only its own rank's statistics unless it is synchronized.
  @Test(arguments: [2, 3]) func statisticsOfAllRanks(ranks: Int) throws {
    let sizes = Self.sizes[2]
    let whole = sizes.model
    let images = sizes.images()
    let weights = Tensor<Double>.random(Shape(sizes.images, 3), "weights")
    let expected = whole.visual.forward(images, mode: .training).array
    whole.visual.backward(weights)
    try whole.visual.moveStatistics()
    let results = Meeting.run(ranks: ranks) { rank, meeting in
      let model = sizes.model
      model.visual.synchronize(over: ThreadRanks(rank: rank, meeting: meeting))
      // Rank 0 has one image less than its share, and of three ranks none.
      let rows =
        rank * sizes.images / ranks - (rank > 0 ? 1 : 0)..<(rank + 1) * sizes.images / ranks
        - (rank + 1 < ranks ? 1 : 0)
      let size = images.count / sizes.images
      let own = Tensor(
        Shape(rows.count, 3, sizes.imageSize, sizes.imageSize),
        images.slice(rows.lowerBound * size..<rows.upperBound * size).array)
      let features = model.visual.forward(own, mode: .training).array
      model.visual.backward(weights.rows(rows))
      try? model.visual.moveStatistics()
      return (features, model.parameters.gradients.array, model.parameters.bufferValues.array)
    }
    #expect(Deviation(results.flatMap(\.0), from: expected).relative <= 1e-10)
    let sums = results[0].1.indices.map { index in results.reduce(0) { $0 + $1.1[index] } }
    for entry in whole.parameters.entries {
      let deviation = Deviation(sums[entry.range], from: whole.parameters.gradient(of: entry).array)
      #expect(deviation.relative <= 1e-9, "\(entry.name): \(deviation)")
    }
    for result in results {
      #expect(Deviation(result.2, from: whole.parameters.bufferValues.array).relative <= 1e-12)
    }
  }

  private struct Broken: Ranks {
    typealias S = Double
    struct Lost: Error {}
    func allGather(_ local: Tensor<Double>, into all: Tensor<Double>) throws { throw Lost() }
    func allReduce(_ numbers: inout [Double]) throws { throw Lost() }
    func allReduceMaximum(_ numbers: inout [Double]) throws { throw Lost() }
  }

  @Test func aRankThatIsLostIsAnError() {
    let model = Self.sizes[0].model
    model.visual.synchronize(over: Broken())
    _ = model.visual.forward(Self.sizes[0].images(), mode: .training)
    #expect(throws: Broken.Lost.self) { try model.visual.moveStatistics() }
  }
}
