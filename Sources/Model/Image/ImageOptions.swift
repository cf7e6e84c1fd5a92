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
  /// How an evaluation resizes an image, if not as CLIP does. Run files cannot say it, so checkpoints and caches have
  /// no such value: only a model of another program does.
  private var ownResize: EvaluationResize?

  /// The resampling filters of a run file: bicubic is the only one, so nothing stores it.
  private enum Interpolation: String, CaseIterable, FieldValue { case bicubic }

  public init() {}

  /// Decodes what a checkpoint stores; absent keys keep their defaults.
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
    ownResize = try values.decodeIfPresent(EvaluationResize.self, forKey: .ownResize)
  }

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

  /// How an evaluation makes a square of an image.
  public var resize: EvaluationResize {
    get { ownResize ?? EvaluationResize() }
    set { ownResize = newValue == EvaluationResize() ? nil : newValue }
  }

  /// True if an image looks the same in every view.
  public var isFixed: Bool { crop == .center && colorJitter.probability == 0 && grayscale == 0 }
}

/// The part of a training image that is seen: a box drawn anew for each view, or the central square of evaluations.
public enum CropChoice: String, CaseIterable, Codable, FieldValue { case random, center }

/// How transparent pixels become opaque.
public enum AlphaHandling: String, CaseIterable, Codable, FieldValue {
  /// The image is composed on white, as a web page or a phone shows it.
  case white
  /// Alpha is discarded and the colours stored under it are kept, as with PIL's `convert("RGB")` and in open_clip.
  case drop
}

/// How the EXIF orientation of an image is handled.
public enum ExifHandling: String, CaseIterable, Codable, FieldValue {
  /// The image is turned upright.
  case apply
  /// The image stays as it is stored, as in open_clip.
  case ignore
}

extension ImageOptions {
  /// The options out of their range, by the path of the key to change.
  public var mistakes: [(path: String, text: String)] {
    invalid.map { ("image.\($0.name)", "expected \($0.expected), found \($0.found)") }
  }

  /// Throws `ImageError.invalidOption` for the first option out of its range.
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
    for (name, value) in colorJitter.parts.prefix(3) {
      check("color_jitter.\(name)", value, value >= 0 && value.isFinite, "0 or more")
    }
    for (name, value, limit) in [
      ("color_jitter.hue", colorJitter.hue, 0.5), ("color_jitter.probability", colorJitter.probability, 1.0),
      ("grayscale", grayscale, 1.0),
    ] { check(name, value, 0...limit ~= value, "0.0 to \(limit)") }
    check("max_pixels", maxPixels, 1...1 << 40 ~= maxPixels, "1 to \(1 << 40) pixels")
    return found
  }

  // The following texts stand for options where embeddings are stored or compared. They are formats: caches hold
  // them, so a text stays as it is whatever becomes of the names of types and properties.

  /// The options that a prepared image is a function of, by their names in run files, as teacher caches store them.
  ///
  /// `max_pixels` never changes an image. A central crop uses neither `scale`, `ratio` nor `scaled_dct`, and a
  /// `scaled_dct` that is false is left out: caches that are older than this option stay valid.
  public var encoding: [String: String] {
    var texts: [String: String] = [
      "size": "\(size)", "mean": "\(mean)", "std": "\(std)", "alpha": alpha.rawValue, "exif": exif.rawValue,
      "crop": crop.rawValue, "grayscale": "\(grayscale)",
      "color_jitter": colorJitter.parts.map { "\($0.name) \($0.value)" }.joined(separator: ", "),
    ]
    if crop == .random {
      texts["scale"] = "\([scale.lowerBound, scale.upperBound])"
      texts["ratio"] = "\([ratio.lowerBound, ratio.upperBound])"
      if scaledDCT { texts["scaled_dct"] = "true" }
    }
    return texts
  }

  /// All options as one line, which identifies how a teacher's images are prepared.
  public var identity: String {
    let jitter = colorJitter.parts.map { "\($0.name): \($0.value)" }.joined(separator: ", ")
    var parts = [
      "size: \(size)", "mean: \(mean)", "std: \(std)", "alpha: Model.AlphaHandling.\(alpha.rawValue)",
      "exif: Model.ExifHandling.\(exif.rawValue)", "crop: Model.CropChoice.\(crop.rawValue)",
      "scale: ClosedRange(\(scale.lowerBound)...\(scale.upperBound))",
      "ratio: ClosedRange(\(ratio.lowerBound)...\(ratio.upperBound))", "colorJitter: Model.ColorJitter(\(jitter))",
      "grayscale: \(grayscale)", "scaledDCT: \(scaledDCT)", "maxPixels: \(maxPixels)",
    ]
    if let own = ownResize {
      parts.append("resize: \(own.mode.rawValue), \(own.interpolation.rawValue), \(own.fillColor)")
    }
    return "ImageOptions(\(parts.joined(separator: ", ")))"
  }
}

/// A number for each of red, green and blue, with which preparation computes as Float. A run file keeps the digits that
/// it was given: the Float nearest to 0.48145466 would be written as 0.48145467. Equal settings have equal Floats.
@propertyWrapper
public struct ChannelSetting: FieldValue, Encodable {
  /// The list as a run file writes it, three numbers if it is valid.
  public private(set) var numbers: [Double]

  public init(_ numbers: [Double]) { self.numbers = numbers }
  public var wrappedValue: [Float] {
    get { numbers.map { Float($0) } }
    set { numbers = newValue.map { Double($0.description) ?? Double($0) } }
  }

  public var projectedValue: ChannelSetting {
    get { self }
    set { self = newValue }
  }

  public static func == (one: ChannelSetting, other: ChannelSetting) -> Bool { one.wrappedValue == other.wrappedValue }
  public static var expectation: String { [Double].expectation }
  public static func read(_ node: RunNode, _ problems: Problems) -> ChannelSetting? {
    [Double].read(node, problems).map { ChannelSetting($0) }
  }
  public var tree: RunTree { numbers.tree }
  public func encode(to encoder: any Encoder) throws { try wrappedValue.encode(to: encoder) }
}

/// A range of positive numbers, which a run file writes as [from, to]. The list is stored before it is checked, because
/// mistakes in a run file are reported together. Reading `wrappedValue` traps unless `isPositive` accepts the list.
@propertyWrapper
public struct RangeSetting: FieldValue, Encodable {
  /// The list as a run file writes it.
  public private(set) var numbers: [Double]

  public init(wrappedValue: ClosedRange<Double>) { numbers = [wrappedValue.lowerBound, wrappedValue.upperBound] }
  private init(numbers: [Double]) { self.numbers = numbers }

  public var wrappedValue: ClosedRange<Double> {
    get { numbers[0]...numbers[1] }
    set { self = RangeSetting(wrappedValue: newValue) }
  }

  public var projectedValue: RangeSetting {
    get { self }
    set { self = newValue }
  }

  /// Returns whether the list is a range within (0, limit].
  func isPositive(upTo limit: Double) -> Bool {
    numbers.count == 2 && numbers[0] > 0 && numbers[0] <= numbers[1] && numbers[1] <= limit
  }

  public static var expectation: String { [Double].expectation }
  public static func read(_ node: RunNode, _ problems: Problems) -> RangeSetting? {
    [Double].read(node, problems).map { RangeSetting(numbers: $0) }
  }
  public var tree: RunTree { numbers.tree }
  public func encode(to encoder: any Encoder) throws { try wrappedValue.encode(to: encoder) }
}
