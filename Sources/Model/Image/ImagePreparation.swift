public import Tensor

/// Turns encoded images into normalised tensors, for training and for evaluation, as open_clip does.
///
/// The output is [3, n, n], channel by channel: (value / 255 − mean) / std. The object keeps its buffers, so that it
/// prepares a stream of images of bounded size without allocating; it must be used by one thread at a time.
public final class ImagePreparation {
  public let options: ImageOptions
  private let seed: UInt64
  private var decoder: ImageDecoder
  private var resampler = Resampler()
  /// The last decoded image.
  private(set) var decoded = RGBImage()
  /// The n × n pixels that were made of it.
  private(set) var square = RGBImage()
  /// The resized image, where it does not fill the square.
  private var inner = RGBImage()
  /// True if the last training image could have been decoded at a fraction of its size.
  private(set) var canShrink = false
  /// The normalised value of every byte in every channel, [3, 256].
  private let normalized: [Float]

  /// Creates a preparation with the run's `data.seed`. Throws `ImageError.invalidOption`.
  public init(_ options: ImageOptions, seed: UInt64) throws(ImageError) {
    try options.validate()
    self.options = options
    self.seed = seed
    decoder = ImageDecoder(alpha: options.alpha, exif: options.exif, maxPixels: options.maxPixels)
    normalized = (0..<3).flatMap { channel in
      (0..<256).map { (Float($0) / 255 - options.mean[channel]) / options.std[channel] }
    }
  }

  /// Prepares a training image, [3, n, n]: a crop resized to n × n, then colour jitter and grayscale if they are set.
  /// Crop and colours depend on (seed, sampleID, view) alone; a `region` is the crop in place of a random one. Throws
  /// `ImageError` if the image cannot be decoded.
  public func prepareTraining(
    _ bytes: [UInt8], sampleID: UInt64, view: Int, region: CropRegion? = nil, into tensor: Tensor<Float>
  ) throws(ImageError) {
    canShrink = false
    try decoder.decode(bytes, into: &decoded) { width, height in
      canShrink = true
      return shrink(width: width, height: height, sampleID: sampleID, view: view, region)
    }
    cut(decoded, sampleID: sampleID, view: view, region)
    normalize(square, into: tensor)
  }

  /// Returns the factor by which an image of this size may be shrunk while it is decoded: the largest of 8, 4 and 2
  /// that leaves the crop at least 2 n pixels a side, or 1.
  ///
  /// On photographs the crop then differs from that of the full image by a quarter of a grey level of 255, and by 1.1
  /// at worst, at 43 dB or more (measured). Decoding only the crop's rows and columns would be exact, but saves at most
  /// 10 % of the time: nearly all goes into Huffman codes, which must be read to the end to detect a truncated file.
  func shrink(width: Int, height: Int, sampleID: UInt64, view: Int, _ region: CropRegion? = nil) -> Int {
    guard options.scaledDCT, options.crop == .random else { return 1 }
    let box = box(region, width: width, height: height, sampleID: sampleID, view: view)
    return [8, 4, 2].first { min(box.width, box.height) >= 2 * options.size * $0 } ?? 1
  }

  /// Stores the training crop of a decoded image in `square`.
  func cut(_ image: RGBImage, sampleID: UInt64, view: Int, _ region: CropRegion? = nil) {
    if options.crop == .center {
      cutCenter(image)
    } else {
      let n = options.size
      let box = box(
        region, width: image.whole.width, height: image.whole.height, sampleID: sampleID, view: view)
      resampler.resize(image, box: box, width: n, height: n, across: 0..<n, down: 0..<n, into: &square)
    }
    for change in colorChanges(sampleID: sampleID, view: view) { square.apply(change) }
  }

  /// Prepares an evaluation image, [3, n, n], resized to a square by `options.resize`. Throws `ImageError` if it cannot
  /// be decoded.
  public func prepareEvaluation(_ bytes: [UInt8], into tensor: Tensor<Float>) throws(ImageError) {
    try decoder.decode(bytes, into: &decoded)
    cutCenter(decoded)
    normalize(square, into: tensor)
  }

  private func cutCenter(_ image: RGBImage) {
    let (n, resize) = (options.size, options.resize)
    let (width, height) = resize.size(width: image.width, height: image.height, n: n)
    // The central part of a side, no longer than n.
    func window(_ side: Int) -> Range<Int> {
      let start = Int((Double(max(side - n, 0)) / 2).rounded(.toNearestOrEven))
      return start..<start + min(side, n)
    }
    let box = CropBox(left: 0, top: 0, width: image.width, height: image.height)
    func resample(into result: inout RGBImage) {
      resampler.resize(
        image, box: box, width: width, height: height, across: window(width), down: window(height),
        filter: resize.filter, into: &result)
    }
    guard width < n || height < n else { return resample(into: &square) }
    resample(into: &inner)
    square.take(inner, centeredIn: n, on: resize.fillColor)
  }

  /// Returns the box of a region, or without one that which training draws.
  private func box(_ region: CropRegion?, width: Int, height: Int, sampleID: UInt64, view: Int) -> CropBox {
    region?.box(inWidth: width, height: height)
      ?? cropBox(width: width, height: height, sampleID: sampleID, view: view)
  }

  /// Returns the box that training cuts from an image of this size, which is the size after `exif` is handled.
  package func cropBox(width: Int, height: Int, sampleID: UInt64, view: Int) -> CropBox {
    var random = stream("crop", sampleID, view)
    return .random(inWidth: width, height: height, scale: options.scale, ratio: options.ratio, using: &random)
  }

  /// Returns the colour changes that training applies to a sample: jitter, then grayscale.
  package func colorChanges(sampleID: UInt64, view: Int) -> [ColorChange] {
    var changes: [ColorChange] = []
    if options.colorJitter.probability > 0 {
      var random = stream("color jitter", sampleID, view)
      changes = options.colorJitter.draw(using: &random)
    }
    if options.grayscale > 0 {
      var random = stream("grayscale", sampleID, view)
      if random.uniform() < options.grayscale { changes.append(.gray) }
    }
    return changes
  }

  private func stream(_ purpose: String, _ sampleID: UInt64, _ view: Int) -> KeyedRandom {
    KeyedRandom(seed: seed, purpose: purpose, sampleID, second: UInt64(bitPattern: Int64(view)))
  }

  /// Writes the normalised values of an image of n × n pixels, [3, n, n].
  func normalize(_ image: RGBImage, into tensor: Tensor<Float>) {
    let pixels = options.size * options.size
    precondition(tensor.count == pixels * 3, "a tensor of \(tensor.shape) for [3, \(options.size), \(options.size)]")
    unsafe tensor.withUnsafeMutableBuffer { output in
      for channel in 0..<3 {
        for pixel in 0..<pixels {
          let value = Int(image.storage[pixel &* 3 &+ channel])
          unsafe output[channel &* pixels &+ pixel] = normalized[channel &* 256 &+ value]
        }
      }
    }
  }
}

/// Prepares the same crop of an image for two models that differ in size or normalisation.
///
/// The image is decoded once, and also resized once if the sizes agree. Each result equals that of `ImagePreparation`
/// with the same options, bit for bit. Like that class, an object must be used by one thread at a time.
public final class PairedPreparation {
  private let first: ImagePreparation
  private let second: ImagePreparation

  /// Creates a preparation for two models with the same crops (`ImageOptions.cropped(as:)`) and the run's `data.seed`.
  public init(_ options: ImageOptions, and other: ImageOptions, seed: UInt64) throws(ImageError) {
    precondition(other == other.cropped(as: options), "two models with different crops")
    first = try ImagePreparation(options, seed: seed)
    second = try ImagePreparation(other, seed: seed)
  }

  /// Prepares a training image for both models, [3, n, n] with each model's n.
  public func prepareTraining(
    _ bytes: [UInt8], sampleID: UInt64, view: Int, into tensor: Tensor<Float>, and other: Tensor<Float>
  ) throws(ImageError) {
    try first.prepareTraining(bytes, sampleID: sampleID, view: view, into: tensor)
    // Without transparent pixels the way in which they are handled makes no difference.
    if first.options.alpha != second.options.alpha, try ImageDecoder.probe(bytes).hasAlpha {
      return try second.prepareTraining(bytes, sampleID: sampleID, view: view, into: other)
    }
    let (width, height) = first.decoded.whole
    if first.options.size == second.options.size {
      second.normalize(first.square, into: other)
    } else if first.canShrink,
      first.decoded.shrink != second.shrink(width: width, height: height, sampleID: sampleID, view: view)
    {
      try second.prepareTraining(bytes, sampleID: sampleID, view: view, into: other)
    } else {
      second.cut(first.decoded, sampleID: sampleID, view: view)
      second.normalize(second.square, into: other)
    }
  }
}

extension ImageOptions {
  /// Returns these options with everything that determines the crop, its colours and its orientation taken from
  /// `other`. Size, normalisation and the handling of transparency stay as they are.
  public func cropped(as other: ImageOptions) -> ImageOptions {
    var options = other
    options.size = size
    options.$mean = $mean
    options.$std = $std
    options.alpha = alpha
    return options
  }
}
