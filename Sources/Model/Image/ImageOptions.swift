public import Settings

/// How images are prepared for a tower: the section `image` of a run file, and what a checkpoint stores of it.
public struct ImageOptions: Section, Codable {
  /// The side n of the prepared image in pixels, 1 … 4096. A run file does not name it: it is the model's, see `sized`.
  public var size = 224
  /// Subtracted from red, green and blue in 0 … 1; CLIP's own values by default.
  @ChannelSetting([0.48145466, 0.4578275, 0.40821073]) public var mean: [Float]
  /// Divides red, green and blue after the mean is subtracted; CLIP's own values by default.
  @ChannelSetting([0.26862954, 0.26130258, 0.27577711]) public var std: [Float]
  public var alpha = AlphaHandling.white
  public var exif = ExifHandling.ignore
  /// The part of a training image that is seen.
  public var crop = CropChoice.random
  /// The area of a random crop as a share of the image, within (0, 1].
  @RangeSetting public var scale: ClosedRange<Double> = 0.9...1
  /// The width of a random crop over its height, above 0.
  @RangeSetting public var ratio: ClosedRange<Double> = 0.75...4.0 / 3.0
  /// Random changes of a training image's colours; none by default.
  public var colorJitter = ColorJitter()
  /// The share of training images that are turned gray.
  public var grayscale = 0.0
  /// True to decode a JPEG from which a random box is cut at 1/2, 1/4 or 1/8 of its size, where at least twice as many
  /// pixels as are needed remain in each direction. Evaluations and central crops always decode the whole image.
  public var scaledDCT = false
  /// Images of more pixels are refused after their header is read.
  public var maxPixels = ImageDecoder.defaultMaxPixels

  /// The resampling filters: bicubic is the only one, so nothing stores it.
  private enum Interpolation: String, CaseIterable, FieldValue { case bicubic }

  public init() {}

  public mutating func fields(_ map: FieldMap) {
    var interpolation = Interpolation.bicubic
    map.field("crop", &crop)
    map.field("scale", &$scale)
    map.field("ratio", &$ratio)
    map.field("interpolation", &interpolation)
    map.field("alpha", &alpha)
    map.field("exif", &exif)
    map.field("mean", &$mean)
    map.field("std", &$std)
    map.field("color_jitter", &colorJitter)
    map.field("grayscale", &grayscale)
    map.field("scaled_dct", &scaledDCT)
    map.field("max_pixels", &maxPixels)
  }

  /// Returns the same options for images of `size` × `size` pixels.
  public func sized(_ size: Int) -> ImageOptions {
    var options = self
    options.size = size
    return options
  }

  /// True if an image looks the same in every view.
  public var isFixed: Bool { crop == .center && colorJitter.probability == 0 && grayscale == 0 }
}

/// The part of a training image that is seen: a box drawn anew for each view, or the central square of evaluations.
public enum CropChoice: String, CaseIterable, Codable, FieldValue { case random, center }

// MARK: In checkpoints

extension ImageOptions {
  private enum CodingKeys: String, CodingKey {
    case size, mean, std, alpha, exif, crop, scale, ratio, colorJitter, grayscale, scaledDCT, maxPixels
  }

  /// Decodes options; absent keys keep their defaults.
  public init(from decoder: any Decoder) throws {
    self.init()
    let values = try decoder.container(keyedBy: CodingKeys.self)
    size = try values.decodeIfPresent(Int.self, forKey: .size) ?? size
    mean = try values.decodeIfPresent([Float].self, forKey: .mean) ?? mean
    std = try values.decodeIfPresent([Float].self, forKey: .std) ?? std
    alpha = try values.decodeIfPresent(AlphaHandling.self, forKey: .alpha) ?? alpha
    exif = try values.decodeIfPresent(ExifHandling.self, forKey: .exif) ?? exif
    crop = try values.decodeIfPresent(CropChoice.self, forKey: .crop) ?? crop
    scale = try values.decodeIfPresent(ClosedRange<Double>.self, forKey: .scale) ?? scale
    ratio = try values.decodeIfPresent(ClosedRange<Double>.self, forKey: .ratio) ?? ratio
    colorJitter = try values.decodeIfPresent(ColorJitter.self, forKey: .colorJitter) ?? colorJitter
    grayscale = try values.decodeIfPresent(Double.self, forKey: .grayscale) ?? grayscale
    scaledDCT = try values.decodeIfPresent(Bool.self, forKey: .scaledDCT) ?? scaledDCT
    maxPixels = try values.decodeIfPresent(Int.self, forKey: .maxPixels) ?? maxPixels
  }

  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(size, forKey: .size)
    try values.encode(mean, forKey: .mean)
    try values.encode(std, forKey: .std)
    try values.encode(alpha, forKey: .alpha)
    try values.encode(exif, forKey: .exif)
    try values.encode(crop, forKey: .crop)
    try values.encode(scale, forKey: .scale)
    try values.encode(ratio, forKey: .ratio)
    try values.encode(colorJitter, forKey: .colorJitter)
    try values.encode(grayscale, forKey: .grayscale)
    try values.encode(scaledDCT, forKey: .scaledDCT)
    try values.encode(maxPixels, forKey: .maxPixels)
  }
}

// MARK: Mistakes

extension ImageOptions {
  /// The options out of their range, by the path of the key to change.
  public var mistakes: [(path: String, text: String)] {
    invalid.map { ("image.\($0.name)", "expected \($0.expected), found \($0.found)") }
  }

  /// Checks the range of every option.
  ///
  /// - Throws: `ImageError.invalidOption` for the first one out of its range.
  public func validate() throws(ImageError) {
    if let first = invalid.first {
      throw .invalidOption(name: first.name, found: first.found, expected: first.expected)
    }
  }

  private var invalid: [(name: String, found: String, expected: String)] {
    var found: [(name: String, found: String, expected: String)] = []
    func check(_ name: String, _ value: Any, _ holds: Bool, _ expected: String) {
      if !holds { found.append((name, "\(value)", expected)) }
    }
    check("size", size, 1...4096 ~= size, "1 to 4096 pixels")
    check("mean", $mean.numbers, mean.count == 3 && mean.allSatisfy(\.isFinite), "[red, green, blue]")
    check(
      "std", $std.numbers, std.count == 3 && std.allSatisfy { $0 > 0 && $0.isFinite },
      "[red, green, blue], each more than 0")
    check("scale", $scale.numbers, $scale.isPositive(upTo: 1), "[from, to] with 0 < from ≤ to ≤ 1")
    check("ratio", $ratio.numbers, $ratio.isPositive(upTo: .greatestFiniteMagnitude), "[from, to] with 0 < from ≤ to")
    for (name, value) in [
      ("brightness", colorJitter.brightness), ("contrast", colorJitter.contrast),
      ("saturation", colorJitter.saturation),
    ] { check("color_jitter.\(name)", value, value >= 0 && value.isFinite, "0 or more") }
    for (name, value, limit) in [
      ("color_jitter.hue", colorJitter.hue, 0.5), ("color_jitter.probability", colorJitter.probability, 1.0),
      ("grayscale", grayscale, 1.0),
    ] { check(name, value, 0...limit ~= value, "0.0 to \(limit)") }
    check("max_pixels", maxPixels, 1...1 << 40 ~= maxPixels, "1 to \(1 << 40) pixels")
    return found
  }
}
