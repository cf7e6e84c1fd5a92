// The texts that stand for image options where embeddings are stored or compared. They are formats: caches on disk hold
// them, so a text stays as it is whatever becomes of the names of types, cases and properties.

extension ImageOptions {
  /// The options that a prepared image is a function of, by their names in run files, as teacher caches store them.
  ///
  /// `max_pixels` never changes an image. A central crop uses neither `scale`, `ratio` nor `scaled_dct`, and a
  /// `scaled_dct` that is false is left out: caches that are older than this option stay valid.
  public var encoding: [String: String] {
    var texts: [String: String] = [
      "size": size.description, "mean": Self.list(mean), "std": Self.list(std), "alpha": alpha.encoding,
      "exif": exif.encoding, "crop": crop.encoding,
      "color_jitter": colorJitter.parts.map { "\($0.name) \($0.value)" }.joined(separator: ", "),
      "grayscale": grayscale.description,
    ]
    if crop == .random {
      texts["scale"] = Self.list([scale.lowerBound, scale.upperBound])
      texts["ratio"] = Self.list([ratio.lowerBound, ratio.upperBound])
      if scaledDCT { texts["scaled_dct"] = "true" }
    }
    return texts
  }

  /// All options as one line, which identifies how a teacher's images are prepared.
  public var identity: String {
    let jitter = colorJitter.parts.map { "\($0.name): \($0.value)" }.joined(separator: ", ")
    let parts = [
      "size: \(size)", "mean: \(Self.list(mean))", "std: \(Self.list(std))",
      "alpha: Model.AlphaHandling.\(alpha.encoding)", "exif: Model.ExifHandling.\(exif.encoding)",
      "crop: Model.CropChoice.\(crop.encoding)",
      "scale: ClosedRange(\(scale.lowerBound)...\(scale.upperBound))",
      "ratio: ClosedRange(\(ratio.lowerBound)...\(ratio.upperBound))",
      "colorJitter: Model.ColorJitter(\(jitter))", "grayscale: \(grayscale)", "scaledDCT: \(scaledDCT)",
      "maxPixels: \(maxPixels)",
    ]
    return "ImageOptions(\(parts.joined(separator: ", ")))"
  }

  private static func list(_ numbers: [some CustomStringConvertible]) -> String {
    "[\(numbers.map(\.description).joined(separator: ", "))]"
  }
}

extension ColorJitter {
  fileprivate var parts: [(name: String, value: Double)] {
    [
      ("brightness", brightness), ("contrast", contrast), ("saturation", saturation), ("hue", hue),
      ("probability", probability),
    ]
  }
}

extension AlphaHandling {
  fileprivate var encoding: String {
    switch self {
    case .white: "white"
    case .drop: "drop"
    }
  }
}

extension ExifHandling {
  fileprivate var encoding: String {
    switch self {
    case .apply: "apply"
    case .ignore: "ignore"
    }
  }
}

extension CropChoice {
  fileprivate var encoding: String {
    switch self {
    case .random: "random"
    case .center: "center"
    }
  }
}
