import Foundation
import Model
import Tensor
import Testing

/// Random crops are functions of their key, with the areas, ratios and positions of RandomResizedCrop.
@Suite struct ImageCropTests {
  private func preparation(
    scale: ClosedRange<Double> = 0.9...1, ratio: ClosedRange<Double> = 0.75...4.0 / 3.0, seed: UInt64 = 7
  ) throws -> ImagePreparation {
    var options = ImageOptions()
    options.size = 8
    options.scale = scale
    options.ratio = ratio
    return try ImagePreparation(options, seed: seed)
  }

  @Test func boxIsAFunctionOfTheKey() throws {
    let (one, other) = (try preparation(), try preparation())
    let forward = (0..<50).map { one.cropBox(width: 200, height: 150, sampleID: $0, view: 3) }
    let backward = (0..<50).reversed().map { other.cropBox(width: 200, height: 150, sampleID: $0, view: 3) }
    #expect(forward == backward.reversed())
  }

  @Test func everyPartOfTheKeyCounts() throws {
    let base = try preparation()
    let box = base.cropBox(width: 2000, height: 1500, sampleID: 1, view: 0)
    #expect(box != base.cropBox(width: 2000, height: 1500, sampleID: 2, view: 0))
    #expect(box != base.cropBox(width: 2000, height: 1500, sampleID: 1, view: 1))
    #expect(try box != preparation(seed: 8).cropBox(width: 2000, height: 1500, sampleID: 1, view: 0))
  }

  /// The area is uniform in 0.3 … 0.4 and the log ratio in ±log 2: means and variances are within five standard errors.
  @Test func areasAndRatios() throws {
    let preparation = try preparation(scale: 0.3...0.4, ratio: 0.5...2)
    let count = 4000
    let boxes = (0..<UInt64(count)).map { preparation.cropBox(width: 3000, height: 3000, sampleID: $0, view: 0) }
    let areas = boxes.map { Double($0.width * $0.height) / 9e6 }
    let ratios = boxes.map { Foundation.log(Double($0.width) / Double($0.height)) }
    let lefts = boxes.map { Double($0.left) / Double(3000 - $0.width) }
    check(areas, low: 0.3, high: 0.4)
    check(ratios, low: -Foundation.log(2), high: Foundation.log(2))
    check(lefts, low: 0, high: 1)
    check(boxes.map { Double($0.top) / Double(3000 - $0.height) }, low: 0, high: 1)
  }

  /// Checks the range, mean and variance of values that are uniform in low … high.
  private func check(_ values: [Double], low: Double, high: Double) {
    let width = high - low
    let count = Double(values.count)
    let mean = values.reduce(0, +) / count
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / count
    #expect(values.allSatisfy { $0 > low - 0.002 && $0 < high + 0.002 })
    #expect(abs(mean - (low + high) / 2) < 5 * width / (12 * count).squareRoot())
    #expect(abs(variance / (width * width / 12) - 1) < 5 * (0.8 / count).squareRoot())
  }

  @Test func boxesFit() throws {
    let preparation = try preparation(scale: 0.05...1, ratio: 0.2...5)
    for (width, height) in [(1, 1), (1, 2), (2, 1), (3, 500), (500, 3), (72, 72), (9, 7)] {
      for sample in 0..<200 as Range<UInt64> {
        let box = preparation.cropBox(width: width, height: height, sampleID: sample, view: 0)
        #expect(box.width >= 1 && box.height >= 1 && box.left >= 0 && box.top >= 0)
        #expect(box.left + box.width <= width && box.top + box.height <= height)
      }
    }
  }

  /// If no box of an allowed ratio and area fits, the largest central one is taken.
  @Test func centralFallback() throws {
    let preparation = try preparation()
    #expect(
      preparation.cropBox(width: 1000, height: 10, sampleID: 0, view: 0)
        == CropBox(left: 493, top: 0, width: 13, height: 10))
    #expect(
      preparation.cropBox(width: 9, height: 1000, sampleID: 0, view: 0)
        == CropBox(left: 0, top: 494, width: 9, height: 12))
  }

  @Test func trainingIsDeterministic() throws {
    var options = ImageOptions()
    options.size = 24
    options.colorJitter = ColorJitter(brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1, probability: 0.8)
    options.grayscale = 0.2
    let (one, other) = (try ImagePreparation(options, seed: 3), try ImagePreparation(options, seed: 3))
    let bytes = ImagePNG(width: 50, height: 40) { x, y, c in UInt8((x * 5 + y * 3 + c * 60) % 256) }.bytes
    let (a, b) = (Tensor<Float>(Shape(3, 24, 24)), Tensor<Float>(Shape(3, 24, 24)))
    var seen: Set<[Float]> = []
    for sample in 0..<40 as Range<UInt64> {
      try one.prepareTraining(bytes, sampleID: sample, view: 1, into: a)
      try other.prepareEvaluation(bytes, into: b)
      try other.prepareTraining(bytes, sampleID: sample, view: 1, into: b)
      #expect(a.array == b.array)
      seen.insert(a.array)
    }
    #expect(seen.count == 40)
  }

  /// A training image is the box that the key draws, resized and normalised channel by channel with CLIP's mean and
  /// standard deviation.
  @Test func trainingIsCropAndResize() throws {
    let preparation = try preparation(scale: 0.2...0.5)
    let png = ImagePNG(width: 60, height: 45) { x, y, c in UInt8((x * 7 + y * 11 + c * 50) % 256) }
    let found = Tensor<Float>(Shape(3, 8, 8))
    try preparation.prepareTraining(png.bytes, sampleID: 99, view: 2, into: found)
    var resampler = Resampler()
    let source = RGBImage(width: 60, height: 45, rgb: png.rows.flatMap { $0 })
    let box = preparation.cropBox(width: 60, height: 45, sampleID: 99, view: 2)
    let expected = resampler.resize(source, box: box, width: 8, height: 8).rgb
    for at in 0..<192 {
      let (c, pixel) = (at / 64, at % 64)
      let options = preparation.options
      #expect(found[at] == (Float(expected[pixel * 3 + c]) / 255 - options.mean[c]) / options.std[c])
    }
  }

  /// A given region is cut in place of a random box, with edges between whole pixels.
  @Test func regionsAreCutAsGiven() throws {
    let preparation = try preparation()
    let png = ImagePNG(width: 60, height: 45) { x, y, c in UInt8((x * 7 + y * 11 + c * 50) % 256) }
    let source = RGBImage(width: 60, height: 45, rgb: png.rows.flatMap { $0 })
    var resampler = Resampler()
    for (edges, box) in [
      ([0.25, 0, 0.75, 1], CropBox(left: 15, top: 0, width: 30, height: 45)),
      ([7.0 / 60, 11.0 / 45, 50.0 / 60, 44.0 / 45], CropBox(left: 7, top: 11, width: 43, height: 33)),
      ([0.999, 0.999, 1, 1], CropBox(left: 59, top: 44, width: 1, height: 1)),
    ] as [([Float], CropBox)] {
      let found = Tensor<Float>(Shape(3, 8, 8))
      let region = try #require(CropRegion(edges))
      try preparation.prepareTraining(png.bytes, sampleID: 1, view: 0, region: region, into: found)
      let expected = resampler.resize(source, box: box, width: 8, height: 8).rgb
      let options = preparation.options
      for at in 0..<192 {
        let (c, pixel) = (at / 64, at % 64)
        #expect(found[at] == (Float(expected[pixel * 3 + c]) / 255 - options.mean[c]) / options.std[c])
      }
    }
    for edges in [[0, 0, 1], [0.5, 0, 0.5, 1], [0, 0, 1, 1.5], [-0.1, 0, 1, 1], [.nan, 0, 1, 1]] as [[Float]] {
      #expect(CropRegion(edges) == nil)
    }
  }
}
