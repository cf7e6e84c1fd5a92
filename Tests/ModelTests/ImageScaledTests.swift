import Foundation
import Model
import Tensor
import TestSupport
import Testing

/// Compares crops of JPEGs that are decoded at a fraction of their size with those of the full image.
@Suite struct ImageScaledTests {
  static let (width, height) = (523, 397)

  /// An image with hard edges and, as in photographs, amplitudes that fall with the frequency.
  static let natural: [UInt8] = {
    var random = KeyedRandom(seed: 7, purpose: "natural")
    let waves = (0..<20).map { _ in
      let frequency = 0.004 * pow(225, random.uniform())
      let angle = random.uniform(from: 0, to: 2 * .pi)
      return (
        (0..<width).map { cos(frequency * cos(angle) * Double($0) + angle * 7) * 0.7 / frequency },
        (0..<height).map { cos(frequency * sin(angle) * Double($0) + angle * 3) }, random.below(3)
      )
    }
    var pixels = [UInt8](repeating: 0, count: width * height * 3)
    for y in 0..<height {
      for x in 0..<width {
        let (dx, dy) = (Double(x - 200), Double(y - 150))
        let disc = dx * dx + dy * dy < 9000 ? 70.0 : (x / 37 + y / 53) % 5 == 0 ? -50 : 0
        var values = [disc + 120, disc + 110, 100 - disc]
        for (across, down, channel) in waves {
          let value = across[x] * down[y]
          values[channel] += value
          values[(channel + 1) % 3] += value / 2
        }
        for channel in 0..<3 { pixels[(y * width + x) * 3 + channel] = UInt8(min(max(values[channel], 0), 255)) }
      }
    }
    return pixels
  }()

  static let files = Dictionary(
    uniqueKeysWithValues: JPEGImage.Sampling.allCases.map {
      ($0, JPEGImage.encode(width: width, height: height, rgb: natural, sampling: $0))
    })

  func options(_ size: Int, scaled: Bool) -> ImageOptions {
    var options = ImageOptions()
    options.size = size
    options.scaledDCT = scaled
    options.mean = [0, 0, 0]
    options.std = [1, 1, 1]
    return options
  }

  /// Returns a training crop in grey levels.
  func crop(_ file: [UInt8], _ options: ImageOptions, sample: Int) throws -> [Float] {
    let tensor = Tensor<Float>(Shape(3, options.size, options.size))
    try ImagePreparation(options, seed: 3)
      .prepareTraining(file, sampleID: UInt64(sample), view: 0, into: tensor)
    return tensor.array.map { $0 * 255 }
  }

  /// Returns the mean absolute difference in grey levels, and the peak signal-to-noise ratio in decibels.
  func distance(_ a: [Float], _ b: [Float]) -> (mean: Float, decibels: Float) {
    let differences = zip(a, b).map { $0 - $1 }
    let square = differences.reduce(0) { $0 + $1 * $1 } / Float(a.count)
    return (differences.reduce(0) { $0 + abs($1) } / Float(a.count), 10 * log10(255 * 255 / max(square, 1e-9)))
  }

  func gray(_ pixels: [UInt8]) -> [Float] {
    stride(from: 0, to: pixels.count, by: 3).map { at in
      let (red, green, blue) = (Float(pixels[at]), Float(pixels[at + 1]), Float(pixels[at + 2]))
      return 0.299 * red + 0.587 * green + 0.114 * blue
    }
  }

  /// The files of this suite hold its image, as decoding them at full size shows.
  @Test(arguments: JPEGImage.Sampling.allCases)
  func theFilesHoldTheImage(sampling: JPEGImage.Sampling) throws {
    var decoder = ImageDecoder()
    let image = try decoder.decode(Self.files[sampling] ?? [])
    #expect(image.width == Self.width && image.height == Self.height)
    #expect(distance(gray(image.rgb), gray(Self.natural)).decibels > 35)
  }

  /// Crops that are shrunk by 2 (n = 80), 4 and 8 stay within the bound that the changelog gives.
  @Test(arguments: JPEGImage.Sampling.allCases, [80, 40, 20])
  func cropsStayWithinTheBound(sampling: JPEGImage.Sampling, size: Int) throws {
    let file = try #require(Self.files[sampling])
    for sample in 0..<8 {
      let whole = try crop(file, options(size, scaled: false), sample: sample)
      let scaled = try crop(file, options(size, scaled: true), sample: sample)
      let (mean, decibels) = distance(whole, scaled)
      #expect(mean > 0, "nothing was shrunk")
      #expect(mean < 1.5 && decibels > 40, "\(sampling) \(size), sample \(sample): \(mean) levels, \(decibels) dB")
    }
  }

  /// A ramp, on which about four pixels make a grey level, reveals any shift of the box.
  @Test(arguments: [80, 40, 20]) func boxesAreMetBetweenThePixels(size: Int) throws {
    var ramp = [UInt8](repeating: 0, count: Self.width * Self.height * 3)
    for y in 0..<Self.height {
      for x in 0..<Self.width {
        for channel in 0..<3 { ramp[(y * Self.width + x) * 3 + channel] = UInt8((x + y) * 255 / 920) }
      }
    }
    let file = JPEGImage.encode(width: Self.width, height: Self.height, rgb: ramp, sampling: .full, coarseness: 0)
    for sample in 0..<16 {
      let whole = try crop(file, options(size, scaled: false), sample: sample)
      let scaled = try crop(file, options(size, scaled: true), sample: sample)
      let worst = zip(whole, scaled).map { abs($0 - $1) }.max() ?? 255
      // Both are integers, of which one may be rounded up and the other down.
      #expect(worst < 1.01, "sample \(sample): \(worst)")
    }
  }

  @Test func whatIsNotLargeEnoughIsDecodedWhole() throws {
    let file = try #require(Self.files[.quarter])
    // A crop of 0.9 of 397 × 523 pixels has fewer than 4 · 100 pixels a side.
    #expect(try crop(file, options(100, scaled: true), sample: 1) == crop(file, options(100, scaled: false), sample: 1))
    for handling in CropChoice.allCases {
      var (one, other) = (options(20, scaled: true), options(20, scaled: false))
      (one.crop, other.crop) = (handling, handling)
      #expect(try (crop(file, one, sample: 1) == crop(file, other, sample: 1)) == (handling == .center))
    }
    let found = (0..<2).map { _ in Tensor<Float>(Shape(3, 20, 20)) }
    for (index, scaled) in [true, false].enumerated() {
      try ImagePreparation(options(20, scaled: scaled), seed: 0).prepareEvaluation(file, into: found[index])
    }
    #expect(found[0].array == found[1].array, "evaluations")
  }

  /// An image on its side is decoded at full size and turned.
  @Test func turnedImages() throws {
    let file = try #require(Self.files[.quarter])
    let exif: [UInt8] =
      Array("Exif\0\0MM\0*".utf8) + [0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0]
    let turned = file.prefix(2) + [0xFF, 0xE1, 0, UInt8(exif.count + 2)] + exif + file.dropFirst(2)
    var (one, other) = (options(20, scaled: true), options(20, scaled: false))
    (one.exif, other.exif) = (.apply, .apply)
    #expect(try crop(Array(turned), one, sample: 1) == crop(Array(turned), other, sample: 1))
    #expect(try crop(Array(turned), other, sample: 1) != crop(file, other, sample: 1), "it was turned")
    #expect(try crop(file, one, sample: 1) != crop(file, other, sample: 1), "upright ones are shrunk")
  }

  /// Preparing an image for two models of different sizes gives each the same result as preparing it alone.
  @Test(arguments: [(20, 40), (40, 20), (20, 200), (20, 22), (40, 40)]) func pairs(first: Int, second: Int) throws {
    let file = try #require(Self.files[.half])
    let (one, other) = (options(first, scaled: true), options(second, scaled: true))
    let paired = try PairedPreparation(one, and: other.cropped(as: one), seed: 3)
    for sample in 0..<3 {
      let found = (Tensor<Float>(Shape(3, first, first)), Tensor<Float>(Shape(3, second, second)))
      try paired.prepareTraining(file, sampleID: UInt64(sample), view: 0, into: found.0, and: found.1)
      #expect(try found.0.array.map { $0 * 255 } == crop(file, one, sample: sample))
      #expect(try found.1.array.map { $0 * 255 } == crop(file, other, sample: sample))
    }
  }

  /// A truncated file is an error, also when it is decoded at a fraction of its size.
  @Test func cutsAreFound() throws {
    let file = try #require(Self.files[.quarter])
    for count in stride(from: 0, to: file.count - 1, by: 997) {
      #expect(throws: ImageError.self) {
        try crop(Array(file.prefix(count)), options(20, scaled: true), sample: 1)
      }
    }
  }
}
