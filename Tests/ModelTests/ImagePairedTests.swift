import Model
import Tensor
import Testing

/// Preparing an image for two models together gives each the same bits as preparing it alone.
@Suite struct ImagePairedTests {
  /// The options in which the second model differs from the first.
  enum Difference: CaseIterable {
    case nothing, normalization, size, alpha, sizeAndAlpha
  }

  private func options(_ exif: ExifHandling) -> ImageOptions {
    var options = ImageOptions()
    options.size = 12
    options.exif = exif
    options.scale = 0.4...0.8
    options.ratio = 0.5...2
    options.colorJitter = ColorJitter(brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.2, probability: 0.8)
    options.grayscale = 0.3
    return options
  }

  private func other(_ difference: Difference) -> ImageOptions {
    var other = ImageOptions()
    // The second model's own options for crops are ignored.
    other.scale = 1...1
    other.exif = .apply
    other.grayscale = 1
    other.size = 12
    switch difference {
    case .nothing: break
    case .normalization:
      other.mean = [0.5, 0.25, 0]
      other.std = [0.5, 1, 2]
    case .size: other.size = 20
    case .alpha: other.alpha = .drop
    case .sizeAndAlpha:
      other.size = 9
      other.alpha = .drop
    }
    return other
  }

  /// An opaque image, one with transparency, and one on its side.
  private let images: [[UInt8]] = [
    ImagePNG(width: 40, height: 25) { x, y, sample in UInt8(truncatingIfNeeded: x * 7 + y * 5 * sample) }.bytes,
    ImagePNG(width: 25, height: 31, kind: .colorAlpha) { x, y, sample in
      UInt8(truncatingIfNeeded: sample == 3 ? x * 9 : x * 3 + y * 11 * sample)
    }.bytes,
    {
      var image = ImagePNG(width: 33, height: 21) { x, y, sample in UInt8(truncatingIfNeeded: x * y + 50 * sample) }
      image.chunks = [ImagePNG.exif(6)]
      return image.bytes
    }(),
  ]

  @Test(arguments: Difference.allCases, ExifHandling.allCases)
  func bothGetWhatTheyWouldGetAlone(difference: Difference, exif: ExifHandling) throws {
    let options = options(exif)
    let other = other(difference).cropped(as: options)
    let paired = try PairedPreparation(options, and: other, seed: 5)
    let alone = try (ImagePreparation(options, seed: 5), ImagePreparation(other, seed: 5))
    for (sample, image) in images.enumerated() {
      for view in 0..<4 {
        let id = UInt64(sample)
        let found = (square(options), square(other))
        try paired.prepareTraining(image, sampleID: id, view: view, into: found.0, and: found.1)
        let wanted = (square(options), square(other))
        try alone.0.prepareTraining(image, sampleID: id, view: view, into: wanted.0)
        try alone.1.prepareTraining(image, sampleID: id, view: view, into: wanted.1)
        #expect(found.0.array == wanted.0.array, "image \(sample), view \(view)")
        #expect(found.1.array == wanted.1.array, "image \(sample), view \(view)")
        #expect(difference == .nothing || found.0.array != found.1.array || (difference == .alpha && sample != 1))
      }
    }
  }

  @Test func theSecondTakesCropsAndColorsAndNothingElse() {
    let options = options(.ignore)
    var own = other(.sizeAndAlpha)
    own.mean = [0, 0, 0]
    let cropped = own.cropped(as: options)
    #expect(cropped.scale == options.scale && cropped.ratio == options.ratio && cropped.exif == .ignore)
    #expect(cropped.colorJitter == options.colorJitter && cropped.grayscale == options.grayscale)
    #expect(cropped.size == 9 && cropped.alpha == .drop && cropped.mean == [0, 0, 0] && cropped.std == own.std)
  }

  @Test func whatCannotBeDecodedIsRefusedAsAlways() throws {
    let paired = try PairedPreparation(options(.ignore), and: other(.size).cropped(as: options(.ignore)), seed: 0)
    let room = (square(options(.ignore)), square(other(.size)))
    #expect(throws: ImageError.self) {
      try paired.prepareTraining(Array(images[0].dropLast(60)), sampleID: 0, view: 0, into: room.0, and: room.1)
    }
  }

  private func square(_ options: ImageOptions) -> Tensor<Float> { Tensor(Shape(3, options.size, options.size)) }
}
