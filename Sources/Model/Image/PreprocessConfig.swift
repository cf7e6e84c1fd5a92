internal import Foundation
internal import Settings

/// The preparation of images as the files of other programs' models describe it. The keys `alpha` and `exif` are ours:
/// open_clip and Hugging Face pass over keys that they do not know, and so does this, as over null.
extension ImageOptions {
  /// Reads open_clip's `preprocess_cfg` for a model of images of `size` × `size` pixels. As in open_clip, absent keys
  /// have CLIP's values, and the model's size precedes the key `size`. Transparency is handled as by `alpha` unless the
  /// object says it. Throws a `ConfigError` that names a value with which an image cannot be prepared.
  public init(preprocessConfig object: [String: Any], size: Int, alpha: AlphaHandling = .drop) throws {
    var reader = PreparationReader(object, path: "preprocess_cfg.", size: size, alpha: alpha)
    _ = try reader.keys.value("mode", "RGB") { value -> Bool? in (value as? String) == "RGB" ? true : nil }
    _ = try reader.keys.value("size", "one number, or the same for height and width,") { value -> [Double]? in
      PreparationReader.numbers(value, 2).flatMap { $0[0] == $0[1] ? $0 : nil }
    }
    try reader.normalization("mean", "std")
    reader.options.resize.mode = try reader.word("resize_mode") ?? .shortest
    reader.options.resize.interpolation = try reader.word("interpolation") ?? .bicubic
    let color = "a number or [red, green, blue], of 0 to 255,"
    let fill = try reader.keys.value("fill_color", color) { value -> [UInt8]? in
      let levels = PreparationReader.numbers(value, 3)?.compactMap { UInt8(exactly: $0) }
      return levels?.count == 3 ? levels : nil
    }
    if let fill { reader.options.resize.fillColor = fill }
    self = try reader.finished()
  }

  /// These options as open_clip's `preprocess_cfg`.
  public var preprocessConfig: [String: Any] {
    var object: [String: Any] = [
      "mean": Self.decimals(mean), "std": Self.decimals(std), "resize_mode": resize.mode.rawValue,
      "interpolation": resize.interpolation.rawValue, "alpha": alpha.rawValue, "exif": exif.rawValue,
    ]
    if resize.fillColor != [0, 0, 0] { object["fill_color"] = resize.fillColor.map { Int($0) } }
    return object
  }

  /// Reads Hugging Face's `preprocessor_config.json` for a model of images of `size` × `size` pixels. Absent keys have
  /// the values of `CLIPImageProcessor`, and transparency is handled as by `alpha` unless the object says it. Throws a
  /// `ConfigError` that names a value with which an image cannot be prepared.
  public init(huggingFaceProcessor object: [String: Any], size: Int, alpha: AlphaHandling = .drop) throws {
    var reader = PreparationReader(object, path: "", size: size, alpha: alpha)
    for key in ["do_resize", "do_rescale", "do_normalize"] {
      try CLIPConfig.require(try reader.keys.flag(key, default: true), "\(key) is false, and true is wanted")
    }
    let factor = try reader.keys.number("rescale_factor", default: 1.0 / 255)
    try CLIPConfig.require(abs(factor * 255 - 1) < 1e-6, "rescale_factor is \(factor), and 1/255 is wanted")
    try reader.normalization("image_mean", "image_std")
    // The numbers of PIL's filters. Foundation cannot compare an NSNumber with every other one: it overflows the stack.
    let filters: [Double: EvaluationResize.Interpolation] = [2: .bilinear, 3: .bicubic]
    let filter = try reader.keys.value("resample", "2 (bilinear) or 3 (bicubic)") { value in
      (value as? NSNumber).flatMap { filters[$0.doubleValue] }
    }
    if let filter { reader.options.resize.interpolation = filter }
    // A number alone is the shorter side's.
    func mode(_ value: Any) -> EvaluationResize.Mode? {
      let sides = (value as? [String: Any] ?? ["shortest_edge": value]).mapValues { ($0 as? NSNumber)?.doubleValue }
      if sides == ["shortest_edge": Double(size)] { return .shortest }
      return sides == ["height": Double(size), "width": Double(size)] ? .squash : nil
    }
    let wanted = "the model's \(size), as the shortest_edge or as height and width,"
    reader.options.resize.mode = try reader.keys.value("size", wanted, mode) ?? .shortest
    if try reader.keys.flag("do_center_crop", default: true) {
      _ = try reader.keys.value("crop_size", wanted, mode)
    } else {
      try CLIPConfig.require(
        reader.options.resize.mode == .squash, "do_center_crop is false, and true is wanted with a shortest_edge")
    }
    self = try reader.finished()
  }

  /// These options as Hugging Face's `preprocessor_config.json`. Throws a `ConfigError` for what `CLIPImageProcessor`
  /// cannot do.
  public var huggingFaceProcessor: [String: Any] {
    get throws {
      try CLIPConfig.require(
        resize.mode != .longest,
        "resize_mode is longest, which fills images, and Hugging Face's CLIPImageProcessor cannot fill them")
      let sides = ["height": size, "width": size]
      var object: [String: Any] = [
        "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": true, "do_resize": true,
        "size": resize.mode == .squash ? sides : ["shortest_edge": size],
        "resample": resize.filter == .bilinear ? 2 : 3, "do_center_crop": resize.mode == .shortest,
        "crop_size": sides, "do_rescale": true, "rescale_factor": 1.0 / 255, "do_normalize": true,
        "image_mean": Self.decimals(mean), "image_std": Self.decimals(std),
      ]
      if alpha != .drop { object["alpha"] = alpha.rawValue }
      if exif != .ignore { object["exif"] = exif.rawValue }
      return object
    }
  }

  /// Returns the numbers as JSON is to have them: converted directly, 0.1 as a Float would become 0.10000000149.
  private static func decimals(_ values: [Float]) -> [Double] { values.map { Double("\($0)") ?? Double($0) } }

  /// How an evaluation prepares an image, in open_clip's words.
  public var evaluationText: String {
    let fill = resize.mode == .longest ? ", fill_color \(resize.fillColor)" : ""
    return "size \(size), resize_mode \(resize.mode.rawValue)\(fill), "
      + "interpolation \(resize.interpolation.rawValue), alpha \(alpha.rawValue)"
  }
}

/// Reads the keys that open_clip's and Hugging Face's files have alike.
private struct PreparationReader {
  var keys: KeyReader
  var options: ImageOptions

  init(_ object: [String: Any], path: String, size: Int, alpha: AlphaHandling) {
    keys = KeyReader(object.filter { !($0.value is NSNull) }, path: path)
    options = ImageOptions().sized(size)
    options.alpha = alpha
  }

  /// Returns `count` numbers: those of a list, or one number for all; nil for anything else.
  static func numbers(_ value: Any, _ count: Int) -> [Double]? {
    let items = value as? [Any] ?? Array(repeating: value, count: count)
    let numbers = items.compactMap { ($0 as? NSNumber).flatMap { $0.isBoolean ? nil : $0.doubleValue } }
    return numbers.count == count && items.count == count ? numbers : nil
  }

  mutating func word<Word: FieldValue & RawRepresentable>(_ key: String) throws -> Word? where Word.RawValue == String {
    try keys.value(key, Word.expectation) { ($0 as? String).flatMap(Word.init(rawValue:)) }
  }

  mutating func normalization(_ mean: String, _ std: String) throws {
    // A lone 0 is refused, because open_clip takes it for an absent value.
    func channels(_ value: Any) -> ChannelSetting? {
      (value as? NSNumber)?.doubleValue == 0 ? nil : Self.numbers(value, 3).map { ChannelSetting($0) }
    }
    options.$mean = try keys.value(mean, "[red, green, blue]", channels) ?? options.$mean
    options.$std = try keys.value(std, "[red, green, blue]", channels) ?? options.$std
  }

  mutating func finished() throws -> ImageOptions {
    options.alpha = try word("alpha") ?? options.alpha
    options.exif = try word("exif") ?? options.exif
    if let (path, text) = options.mistakes.first {
      throw ConfigError("\(keys.path)\(path.trimmingPrefix("image.")): \(text)")
    }
    return options
  }
}
