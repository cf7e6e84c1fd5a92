import Foundation
import Model
import Tensor
import TestSupport
import Testing

@Suite struct ContrastiveTests {
  /// Value and gradients of a batch, on one rank or on one of several.
  struct Result {
    var value = 0.0
    var image: [Double] = []
    var text: [Double] = []
    var logitScale = 0.0
  }

  private static func run<S: Scalar>(
    _ image: Tensor<S>, _ text: Tensor<S>, logitScale: Double, tile: Int = 2048, weight: S = 1
  ) throws -> Result {
    try run(image, text, 0..<image.rows, logitScale: logitScale, tile: tile, weight: weight, SingleRank<S>())
  }

  /// `rows` of the batch are this rank's.
  private static func run<S: Scalar>(
    _ image: Tensor<S>, _ text: Tensor<S>, _ rows: Range<Int>, logitScale: Double, tile: Int, weight: S = 1,
    _ ranks: some Ranks<S>
  ) throws -> Result {
    let features = Features<S>()
    try features.load(image: image.rows(rows), text: text.rows(rows), rows: rows, count: image.rows, ranks: ranks)
    let slope = Tensor<S>(Shape())
    let value = try Contrastive<S>(tile: tile).accumulate(
      features, logitScale: S(logitScale), weight: weight, logitScaleGradient: slope, ranks: ranks)
    let raw = features.rawGradients()
    return Result(value: value, image: raw.image.doubles, text: raw.text.doubles, logitScale: Double(slope[0]))
  }

  private static func pairs<S: Scalar>(_ n: Int, _ width: Int) -> (image: Tensor<S>, text: Tensor<S>) {
    (.random(Shape(n, width), "image", bound: 3), .random(Shape(n, width), "text", bound: 3))
  }

  private func expect(
    _ found: Result, _ expected: Result, _ tolerance: Double, _ name: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let parts = [
      ("value", [found.value], [expected.value]), ("image", found.image, expected.image),
      ("text", found.text, expected.text), ("logit scale", [found.logitScale], [expected.logitScale]),
    ]
    for (part, a, b) in parts {
      let deviation = Deviation(a, from: b)
      #expect(deviation.relative <= tolerance, "\(name), \(part): \(deviation)", sourceLocation: sourceLocation)
    }
  }

  private static func plain<S: Scalar>(_ pairs: (image: Tensor<S>, text: Tensor<S>), _ logitScale: Double) -> Result {
    let plain = PlainContrastive(
      image: pairs.image.doubles, text: pairs.text.doubles, width: pairs.image.columns, logitScale: logitScale)
    return Result(value: plain.value, image: plain.image, text: plain.text, logitScale: plain.logitScale)
  }

  // MARK: against the whole matrix

  @Test(arguments: [2, 3, 7, 13], [1, 2, 3, 5, 13, 2048]) func inDouble(n: Int, tile: Int) throws {
    let pairs: (image: Tensor<Double>, text: Tensor<Double>) = Self.pairs(n, 5)
    let expected = Self.plain(pairs, 1.5)
    expect(try Self.run(pairs.image, pairs.text, logitScale: 1.5, tile: tile), expected, 1e-13, "\(n) by \(tile)")
  }

  @Test(arguments: [2, 7, 13], [1, 3, 2048]) func inSinglePrecision(n: Int, tile: Int) throws {
    let pairs: (image: Tensor<Float>, text: Tensor<Float>) = Self.pairs(n, 5)
    let expected = Self.plain(pairs, 1.5)
    expect(try Self.run(pairs.image, pairs.text, logitScale: 1.5, tile: tile), expected, 1e-5, "\(n) by \(tile)")
  }

  @Test(arguments: [(2, 3), (5, 2), (3, 1000)]) func differences(n: Int, tile: Int) throws {
    let pairs: (image: Tensor<Double>, text: Tensor<Double>) = Self.pairs(n, 3)
    let (image, text) = pairs
    let scale = Tensor<Double>(Shape(), [0.7])
    let (dimage, dtext, dscale) = (Tensor<Double>(image.shape), Tensor<Double>(text.shape), Tensor<Double>(Shape()))
    let check = GradientCheck(
      [
        .init("image", image, gradient: dimage, accumulates: false),
        .init("text", text, gradient: dtext, accumulates: false),
        .init("logit scale", scale, gradient: dscale, accumulates: false),
      ], roundings: 64)
    let report = try check.run {
      [try Self.run(image, text, logitScale: scale[0], tile: tile).value]
    } backward: { weights in
      let result = try Self.run(image, text, logitScale: scale[0], tile: tile, weight: weights[0])
      copy(Tensor(image.shape, result.image), into: dimage)
      copy(Tensor(text.shape, result.text), into: dtext)
      dscale[0] = result.logitScale
    }
    #expect(report.passed, "\(report)")
  }

  @Test func gradientsAreAdded() throws {
    let pairs: (image: Tensor<Double>, text: Tensor<Double>) = Self.pairs(5, 3)
    let (features, slope) = (Features<Double>(), Tensor<Double>(Shape(), [2]))
    try features.load(image: pairs.image, text: pairs.text, rows: 0..<5, count: 5, ranks: SingleRank())
    let loss = Contrastive<Double>()
    var twice: [[Double]] = []
    for _ in 0..<2 {
      _ = try loss.accumulate(features, logitScale: 1, logitScaleGradient: slope, ranks: SingleRank())
      twice.append(features.imageGradient.array + features.textGradient.array + [slope[0] - 2])
    }
    #expect(Deviation(twice[1], from: twice[0].map { 2 * $0 }).relative <= 1e-14)
  }

  // MARK: batches of other kinds

  @Test func aPermutedBatchHasPermutedGradients() throws {
    let pairs: (image: Tensor<Double>, text: Tensor<Double>) = Self.pairs(7, 5)
    let order = [3, 6, 0, 5, 1, 4, 2]
    let (image, text) = (Tensor<Double>(pairs.image.shape), Tensor<Double>(pairs.text.shape))
    gatherRows(pairs.image, order, into: image)
    gatherRows(pairs.text, order, into: text)
    var expected = try Self.run(pairs.image, pairs.text, logitScale: 2)
    expected.image = order.flatMap { expected.image[$0 * 5..<($0 + 1) * 5] }
    expected.text = order.flatMap { expected.text[$0 * 5..<($0 + 1) * 5] }
    expect(try Self.run(image, text, logitScale: 2), expected, 1e-13, "permuted")
  }

  @Test func picturesAndCaptionsMayChangePlaces() throws {
    let pairs: (image: Tensor<Double>, text: Tensor<Double>) = Self.pairs(5, 3)
    var expected = try Self.run(pairs.image, pairs.text, logitScale: 2)
    swap(&expected.image, &expected.text)
    expect(try Self.run(pairs.text, pairs.image, logitScale: 2), expected, 1e-13, "changed places")
  }

  @Test func onePairHasNoLoss() throws {
    let pairs: (image: Tensor<Float>, text: Tensor<Float>) = Self.pairs(1, 7)
    let result = try Self.run(pairs.image, pairs.text, logitScale: log(100))
    #expect(abs(result.value) <= 1e-5 && abs(result.logitScale) <= 1e-4)
    #expect((result.image + result.text).allSatisfy { abs($0) <= 1e-4 })
  }

  @Test func equalRowsLeaveTheLogarithmOfTheirNumber() throws {
    let rows = Tensor<Float>(Shape(6, 2), (0..<12).map { $0 % 2 == 0 ? 3 : -4 })
    let result = try Self.run(rows, rows, logitScale: log(100))
    // Logits of 100 and their log-sum-exps are rounded by u · 100 each, twice, and their gradient weighs that by 100.
    let bound = 4 * 100 * 100 * Float.roundoff
    #expect(abs(result.value - log(6)) <= 1e-5 && abs(result.logitScale) <= bound)
    #expect((result.image + result.text).allSatisfy { abs($0) <= bound })
  }

  /// Scale 100, every pair as wrong as can be: logits of −100 beside 100.
  @Test(arguments: [1, 2, 2048]) func largeLogits(tile: Int) throws {
    let image = Tensor<Float>(Shape(4, 2), [1, 0, -1, 0, 1, 0, -1, 0])
    let text = Tensor<Float>(Shape(4, 2), [-1, 0, 1, 0, -1, 0, 1, 0])
    let result = try Self.run(image, text, logitScale: log(100), tile: tile)
    #expect(abs(result.value - (200 + log(2))) <= 1e-3)
    #expect((result.image + result.text + [result.logitScale]).allSatisfy { $0.isFinite })
  }

  @Test func aFeatureThatIsNotANumberIsSeenInTheLoss() throws {
    for bad in [Float.nan, .infinity] {
      let pairs: (image: Tensor<Float>, text: Tensor<Float>) = Self.pairs(5, 3)
      pairs.text[7] = bad
      #expect(try Self.run(pairs.image, pairs.text, logitScale: 1).value.isNaN)
      #expect(try Self.run(pairs.text, pairs.image, logitScale: 1, tile: 2).value.isNaN)
    }
  }

  // MARK: several ranks

  @Test(arguments: [2, 3, 5], [1, 3, 2048]) func ranksInDouble(ranks: Int, tile: Int) throws {
    try compareRanks(Double.self, ranks, tile, 1e-10)
  }

  @Test(arguments: [2, 3], [3, 2048]) func ranksInSinglePrecision(ranks: Int, tile: Int) throws {
    try compareRanks(Float.self, ranks, tile, 1e-5)
  }

  private func compareRanks<S: Scalar>(_: S.Type, _ ranks: Int, _ tile: Int, _ tolerance: Double) throws {
    let n = 13
    let pairs: (image: Tensor<S>, text: Tensor<S>) = Self.pairs(n, 5)
    let expected = try Self.run(pairs.image, pairs.text, logitScale: 2)
    let parts = Meeting.run(ranks: ranks) { rank, meeting in
      Swift.Result {
        try Self.run(
          pairs.image, pairs.text, rank * n / ranks..<(rank + 1) * n / ranks, logitScale: 2, tile: tile,
          ThreadRanks<S>(rank: rank, meeting: meeting))
      }
    }
    var whole = Result()
    for part in try parts.map({ try $0.get() }) {
      #expect(part.value == (try parts[0].get().value), "the value is the same on every rank")
      whole.value = part.value
      whole.image += part.image
      whole.text += part.text
      whole.logitScale += part.logitScale
    }
    expect(whole, expected, tolerance, "\(ranks) ranks")
  }
}
