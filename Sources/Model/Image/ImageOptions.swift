/// How pictures become the numbers that a tower sees.
public struct ImageOptions: Codable, Equatable, Sendable {
  /// Side n of the prepared picture in pixels, 1 … 4096.
  public var size = 224
  /// Subtracted from red, green and blue in 0 … 1; CLIP's own values.
  public var mean: [Float] = [0.48145466, 0.4578275, 0.40821073]
  /// Divides red, green and blue after the mean is subtracted; CLIP's own values.
  public var std: [Float] = [0.26862954, 0.26130258, 0.27577711]
  /// What becomes of transparency.
  public var alpha = AlphaHandling.white
  /// What becomes of the orientation that EXIF gives.
  public var exif = ExifHandling.ignore
  /// Which part of a training picture is seen.
  public var crop = CropChoice.random
  /// Area of a training crop as a share of the picture, within (0, 1].
  public var scale: ClosedRange<Double> = 0.9...1
  /// Width over height of a training crop, above 0.
  public var ratio: ClosedRange<Double> = 0.75...4.0 / 3.0
  /// Random change of a training picture's colours; none by default.
  public var colorJitter = ColorJitter()
  /// The share of training pictures that are turned gray.
  public var grayscale = 0.0
  /// Whether a JPEG from which a random box is cut is decoded at 1/2, 1/4 or 1/8 of its size, where at least twice as
  /// many pixels as are wanted remain in each direction. Pictures of evaluations and central crops never are.
  public var scaledDCT = false
  /// Larger pictures are refused from their header.
  public var maxPixels = ImageDecoder.defaultMaxPixels

  public init() {}

  /// Keys that are absent keep their defaults.
  public init(from decoder: any Decoder) throws {
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

  /// Throws `invalidOption` for the first value out of its range.
  public func validate() throws(ImageError) {
    try check("size", size, 1...4096 ~= size, "1 … 4096 pixels")
    try check("mean", mean, mean.count == 3 && mean.allSatisfy(\.isFinite), "three numbers: red, green, blue")
    try check("std", std, std.count == 3 && std.allSatisfy { $0 > 0 && $0.isFinite }, "three positive numbers")
    try check("scale", scale, scale.lowerBound > 0 && scale.upperBound <= 1, "0 < from ≤ to ≤ 1")
    try check("ratio", ratio, ratio.lowerBound > 0 && ratio.upperBound.isFinite, "0 < from ≤ to")
    for (name, value) in [
      ("brightness", colorJitter.brightness), ("contrast", colorJitter.contrast),
      ("saturation", colorJitter.saturation),
    ] { try check("color_jitter.\(name)", value, value >= 0 && value.isFinite, "0 or more") }
    try check("color_jitter.hue", colorJitter.hue, 0...0.5 ~= colorJitter.hue, "0 … 0.5")
    try check("color_jitter.probability", colorJitter.probability, 0...1 ~= colorJitter.probability, "0 … 1")
    try check("grayscale", grayscale, 0...1 ~= grayscale, "0 … 1")
    try check("max_pixels", maxPixels, maxPixels > 0, "1 or more")
  }

  private func check(_ name: String, _ found: Any, _ holds: Bool, _ expected: String) throws(ImageError) {
    if !holds { throw .invalidOption(name: name, found: "\(found)", expected: expected) }
  }
}

/// Which part of a training picture is seen: a random box, or the central square of evaluations.
public enum CropChoice: String, CaseIterable, Codable, Sendable { case random, center }
