public import Tensor

/// The same crop of a picture for two models that want other sizes or other normalisations: decoded once, and resized
/// once where they agree on the size. Each result is what `ImagePreparation` gives with the same options, bit for bit.
///
/// One object serves one thread, as `ImagePreparation` does.
public final class PairedPreparation {
  private let first: ImagePreparation
  private let second: ImagePreparation

  /// Both must have the same crops: see `ImageOptions.cropped(as:)`. `seed` is the run's `data.seed`.
  public init(_ options: ImageOptions, and other: ImageOptions, seed: UInt64) throws(ImageError) {
    precondition(other == other.cropped(as: options), "two models that see other crops")
    first = try ImagePreparation(options, seed: seed)
    second = try ImagePreparation(other, seed: seed)
  }

  /// A training picture, [3, n, n] for each n of the two.
  public func prepareTraining(
    _ bytes: [UInt8], sampleID: UInt64, view: Int, into tensor: Tensor<Float>, and other: Tensor<Float>
  ) throws(ImageError) {
    try first.prepareTraining(bytes, sampleID: sampleID, view: view, into: tensor)
    // Pictures without transparency are the same whatever becomes of it.
    if first.options.alpha != second.options.alpha, try ImageDecoder.probe(bytes).hasAlpha {
      return try second.prepareTraining(bytes, sampleID: sampleID, view: view, into: other)
    }
    if first.options.size == second.options.size {
      second.normalize(first.square, into: other)
    } else if first.canShrink, first.decoded.shrink != shrinkOfSecond(sampleID, view) {
      try second.prepareTraining(bytes, sampleID: sampleID, view: view, into: other)
    } else {
      second.cut(first.decoded, sampleID: sampleID, view: view)
      second.normalize(second.square, into: other)
    }
  }

  /// How the second model would have the picture decoded that the first one has.
  private func shrinkOfSecond(_ sampleID: UInt64, _ view: Int) -> Int {
    let (width, height) = first.decoded.whole
    return second.shrink(width: width, height: height, sampleID: sampleID, view: view)
  }
}

extension ImageOptions {
  /// These options with what rules which part of a picture is seen in which colours, and how upright, taken from
  /// `other`. Size, normalisation and transparency stay.
  public func cropped(as other: ImageOptions) -> ImageOptions {
    var options = self
    options.exif = other.exif
    options.crop = other.crop
    options.scale = other.scale
    options.ratio = other.ratio
    options.colorJitter = other.colorJitter
    options.grayscale = other.grayscale
    options.scaledDCT = other.scaledDCT
    options.maxPixels = other.maxPixels
    return options
  }
}
