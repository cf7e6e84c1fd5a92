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
        == "JPEG picture of 90000 × 80000 pixels, the limit is 1000 pixels; shrink it or raise image.max_pixels")
    #expect("\(ImageError.damaged(format: .webp, reason: "the file ends early"))".contains("WebP"))
  }
}
