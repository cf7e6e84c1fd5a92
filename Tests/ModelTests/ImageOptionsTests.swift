import Foundation
import Model
import Testing

@Suite struct ImageOptionsTests {
  @Test func absentKeysKeepDefaults() throws {
    let options = try JSONDecoder().decode(
      ImageOptions.self, from: Data(#"{"size": 64, "scale": [0.5, 1], "colorJitter": {"hue": 0.1}}"#.utf8))
    var expected = ImageOptions()
    expected.size = 64
    expected.scale = 0.5...1
    expected.colorJitter.hue = 0.1
    #expect(options == expected)
  }

  @Test func roundTrip() throws {
    var options = ImageOptions()
    options.alpha = .drop
    options.exif = .apply
    options.ratio = 0.5...2
    options.grayscale = 0.25
    options.colorJitter = ColorJitter(brightness: 0.1, contrast: 0.2, saturation: 0.3, hue: 0.4, probability: 0.5)
    #expect(try JSONDecoder().decode(ImageOptions.self, from: JSONEncoder().encode(options)) == options)
  }

  /// The options of a run whose caches and checkpoints an earlier release has written.
  private static var written: ImageOptions {
    var options = ImageOptions()
    options.size = 16
    options.scale = 0.5...1
    options.colorJitter = ColorJitter(brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.08, probability: 0.8)
    options.grayscale = 0.1
    return options
  }

  /// Checkpoints on disk hold exactly this text.
  @Test func theTextInCheckpoints() throws {
    let json = """
      {"alpha":"white","colorJitter":{"brightness":0.4,"contrast":0.4,"hue":0.08,"probability":0.8,"saturation":0.4},\
      "crop":"random","exif":"ignore","grayscale":0.1,"maxPixels":50000000,\
      "mean":[0.48145467,0.4578275,0.40821072],"ratio":[0.75,1.3333333333333333],"scale":[0.5,1],\
      "scaledDCT":false,"size":16,"std":[0.26862955,0.2613026,0.2757771]}
      """
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    #expect(String(decoding: try encoder.encode(Self.written), as: UTF8.self) == json)
    #expect(try JSONDecoder().decode(ImageOptions.self, from: Data(json.utf8)) == Self.written)
  }

  /// Caches on disk hold exactly these texts, and are refused if one differs.
  @Test func theEncodingInCaches() {
    var options = Self.written
    var expected = [
      "alpha": "white", "color_jitter": "brightness 0.4, contrast 0.4, saturation 0.4, hue 0.08, probability 0.8",
      "crop": "random", "exif": "ignore", "grayscale": "0.1", "mean": "[0.48145467, 0.4578275, 0.40821072]",
      "ratio": "[0.75, 1.3333333333333333]", "scale": "[0.5, 1.0]", "size": "16",
      "std": "[0.26862955, 0.2613026, 0.2757771]",
    ]
    #expect(options.encoding == expected)
    options.alpha = .drop
    options.exif = .apply
    options.mean = [0, 0.5, 1]
    options.scaledDCT = true
    options.maxPixels = 7
    expected["alpha"] = "drop"
    expected["exif"] = "apply"
    expected["mean"] = "[0.0, 0.5, 1.0]"
    expected["scaled_dct"] = "true"
    #expect(options.encoding == expected)
    options.crop = .center
    expected["crop"] = "center"
    for key in ["scale", "ratio", "scaled_dct"] { expected[key] = nil }
    #expect(options.encoding == expected)
  }

  /// The identity is the text that Swift gave for the options when their type, cases and properties had these names.
  @Test func theIdentity() {
    let expected = """
      ImageOptions(size: 16, mean: [0.48145467, 0.4578275, 0.40821072], std: [0.26862955, 0.2613026, 0.2757771], \
      alpha: Model.AlphaHandling.white, exif: Model.ExifHandling.ignore, crop: Model.CropChoice.random, \
      scale: ClosedRange(0.5...1.0), ratio: ClosedRange(0.75...1.3333333333333333), \
      colorJitter: Model.ColorJitter(brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.08, \
      probability: 0.8), grayscale: 0.1, scaledDCT: false, maxPixels: 50000000)
      """
    #expect(Self.written.identity == expected)
    var options = ImageOptions()
    options.alpha = .drop
    options.exif = .apply
    options.crop = .center
    options.std = [1, 0.5, 0.25]
    options.scaledDCT = true
    let other = """
      ImageOptions(size: 224, mean: [0.48145467, 0.4578275, 0.40821072], std: [1.0, 0.5, 0.25], \
      alpha: Model.AlphaHandling.drop, exif: Model.ExifHandling.apply, crop: Model.CropChoice.center, \
      scale: ClosedRange(0.9...1.0), ratio: ClosedRange(0.75...1.3333333333333333), \
      colorJitter: Model.ColorJitter(brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0, \
      probability: 0.0), grayscale: 0.0, scaledDCT: true, maxPixels: 50000000)
      """
    #expect(options.identity == other)
  }

  @Test func valuesOutOfRangeAreNamed() throws {
    let mistakes: [(String, (inout ImageOptions) -> Void)] = [
      ("size", { $0.size = 0 }), ("size", { $0.size = 5000 }), ("mean", { $0.mean = [0, 0] }),
      ("mean", { $0.mean = [0, 0, .nan] }), ("std", { $0.std = [1, 0, 1] }), ("std", { $0.std = [1, 1] }),
      ("scale", { $0.scale = 0...1 }), ("scale", { $0.scale = 0.5...1.5 }), ("ratio", { $0.ratio = 0...1 }),
      ("ratio", { $0.ratio = 1 ... .infinity }), ("color_jitter.brightness", { $0.colorJitter.brightness = -1 }),
      ("color_jitter.contrast", { $0.colorJitter.contrast = .nan }),
      ("color_jitter.saturation", { $0.colorJitter.saturation = .infinity }),
      ("color_jitter.hue", { $0.colorJitter.hue = 0.6 }),
      ("color_jitter.probability", { $0.colorJitter.probability = 1.1 }), ("grayscale", { $0.grayscale = -0.1 }),
      ("max_pixels", { $0.maxPixels = 0 }),
    ]
    for (name, spoil) in mistakes {
      var options = ImageOptions()
      spoil(&options)
      let error = try #require(throws: ImageError.self) { try ImagePreparation(options, seed: 0) }
      guard case .invalidOption(name, _, _) = error else {
        Issue.record("\(name): \(error)")
        continue
      }
      #expect("\(error)".hasPrefix("image.\(name) is "))
    }
  }

  @Test func messagesNameTheRemedy() {
    let error = ImageError.tooManyPixels(format: .jpeg, width: 90_000, height: 80_000, limit: 1000)
    #expect(
      "\(error)"
        == "JPEG image of 90000 × 80000 pixels, the limit is 1000 pixels; shrink it or raise image.max_pixels")
    #expect("\(ImageError.damaged(format: .webp, reason: "the file ends early"))".contains("WebP"))
  }
}
