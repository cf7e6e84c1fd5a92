public import Tensor

/// Encoded pictures to normalised tensors, for training and for evaluation, as open_clip prepares them.
///
/// Output is [3, n, n], channel by channel: (value / 255 − mean) / std. One object serves one thread: it keeps the
/// scratch of decoding and resizing, so a stream of pictures of bounded size is prepared without allocating.
public final class ImagePreparation {
  public let options: ImageOptions
  private let seed: UInt64
  private var decoder: ImageDecoder
  private var resampler = Resampler()
  /// The last picture as it was decoded, and what was cut from it.
  private(set) var decoded = RGBImage()
  private(set) var square = RGBImage()
  /// Whether the last training picture could have been decoded at a fraction of its size.
  private(set) var canShrink = false
  /// What each byte of each channel becomes, [3, 256].
  private let normalized: [Float]

  /// `seed` is the run's `data.seed`, of which crops and colours are functions.
  public init(_ options: ImageOptions, seed: UInt64) throws(ImageError) {
    try options.validate()
    self.options = options
    self.seed = seed
    decoder = ImageDecoder(alpha: options.alpha, exif: options.exif, maxPixels: options.maxPixels)
    normalized = (0..<3).flatMap { channel in
      (0..<256).map { (Float($0) / 255 - options.mean[channel]) / options.std[channel] }
    }
  }

  /// A training picture: a crop resized to n × n, then colour jitter and gray if asked for.
  ///
  /// Box and colours depend on (seed, sampleID, view) alone.
  public func prepareTraining(
    _ bytes: [UInt8], sampleID: UInt64, view: Int, into tensor: Tensor<Float>
  ) throws(ImageError) {
    canShrink = false
    try decoder.decode(bytes, into: &decoded) { width, height in
      canShrink = true
      return shrink(width: width, height: height, sampleID: sampleID, view: view)
    }
    cut(decoded, sampleID: sampleID, view: view)
    normalize(square, into: tensor)
  }

  /// By how much a picture of this size may be shrunk while it is decoded: the most of 8, 4 and 2 that leaves twice as
  /// many pixels of the crop as are wanted, or 1.
  ///
  /// On photographs the crop then differs from that of the whole picture by a quarter of a grey level of 255, and by
  /// 1.1 at worst, with 43 dB or more (measured); with one and a half as many left it would be 1.8 at worst. Decoding
  /// only the box's rows and columns would be exact, but saves no more than 2 to 10 % of decoding: nearly all of it is
  /// Huffman codes, which must be read to the end to find a file that was cut.
  func shrink(width: Int, height: Int, sampleID: UInt64, view: Int) -> Int {
    guard options.scaledDCT, options.crop == .random else { return 1 }
    let box = cropBox(width: width, height: height, sampleID: sampleID, view: view)
    return [8, 4, 2].first { min(box.width, box.height) >= 2 * options.size * $0 } ?? 1
  }

  /// Leaves the training crop of a decoded picture in `square`.
  func cut(_ picture: RGBImage, sampleID: UInt64, view: Int) {
    switch options.crop {
    case .random:
      let n = options.size
      let (width, height) = picture.whole
      let box = cropBox(width: width, height: height, sampleID: sampleID, view: view)
      resampler.resize(picture, box: box, width: n, height: n, across: 0..<n, down: 0..<n, into: &square)
    case .center: cutCenter(picture)
    }
    for change in colorChanges(sampleID: sampleID, view: view) { square.apply(change) }
  }

  /// An evaluation picture: the shorter side resized to n, the longer to ⌊n · long / short⌋, and the central n × n.
  public func prepareEvaluation(_ bytes: [UInt8], into tensor: Tensor<Float>) throws(ImageError) {
    try decoder.decode(bytes, into: &decoded)
    cutCenter(decoded)
    normalize(square, into: tensor)
  }

  private func cutCenter(_ picture: RGBImage) {
    let n = options.size
    let (w, h) = (picture.width, picture.height)
    let long = Int(Double(n * max(w, h)) / Double(min(w, h)))
    let (width, height) = w <= h ? (n, long) : (long, n)
    let left = Int((Double(width - n) / 2).rounded(.toNearestOrEven))
    let top = Int((Double(height - n) / 2).rounded(.toNearestOrEven))
    resampler.resize(
      picture, box: CropBox(left: 0, top: 0, width: w, height: h), width: width, height: height,
      across: left..<left + n, down: top..<top + n, into: &square)
  }

  /// The box that training cuts from a picture of this size (as it is after `exif`).
  package func cropBox(width: Int, height: Int, sampleID: UInt64, view: Int) -> CropBox {
    var random = stream("crop", sampleID, view)
    return CropBox.random(
      inWidth: width, height: height, scale: options.scale, ratio: options.ratio, using: &random)
  }

  /// What training does to the colours of a sample: jitter, then gray.
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
    KeyedRandom(seed: seed, purpose: purpose, sampleID, UInt64(bitPattern: Int64(view)))
  }

  /// Writes a picture of n × n pixels as [3, n, n].
  func normalize(_ picture: RGBImage, into tensor: Tensor<Float>) {
    let pixels = options.size * options.size
    precondition(tensor.count == pixels * 3, "a tensor of \(tensor.shape) for [3, \(options.size), \(options.size)]")
    unsafe tensor.withUnsafeMutableBuffer { output in
      for channel in 0..<3 {
        for pixel in 0..<pixels {
          unsafe output[channel &* pixels &+ pixel] =
            normalized[channel &* 256 &+ Int(picture.storage[pixel &* 3 &+ channel])]
        }
      }
    }
  }
}
