import Foundation
import Model
import Tensor
import TestSupport
import Testing

/// Evaluations prepare images as other programs' files say. The expected pixels are those of PIL in open_clip's
/// transform, written by `Tests/Fixtures/preprocessing/make.py`.
@Suite struct ImagePreprocessTests {
  struct Expected: Decodable, Sendable {
    let images: [Image]
    struct Image: Decodable, Sendable {
      let width, height, size: Int
      let rgb: Data
      let cases: [Case]
    }
    struct Case: Decodable, Sendable {
      let rgb: Data
    }
  }

  private func options(_ json: String, size: Int = 16, alpha: AlphaHandling = .drop) throws -> ImageOptions {
    try ImageOptions(preprocessConfig: object(json), size: size, alpha: alpha)
  }

  private func object(_ json: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
  }

  /// Returns an object as a reader of its JSON has it.
  private func written(_ object: [String: Any]) throws -> [String: Any] {
    try self.object(String(decoding: JSONSerialization.data(withJSONObject: object), as: UTF8.self))
  }

  @Test func pixelsAreThoseOfPIL() throws {
    let data = try Data(contentsOf: Fixture.folder("preprocessing").appending(path: "preprocessing.json"))
    let expected = try JSONDecoder().decode(Expected.self, from: data)
    let whole = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    let images = try #require(whole["images"] as? [[String: Any]])
    var compared = 0
    for (image, json) in zip(expected.images, images) {
      let rgb = [UInt8](image.rgb)
      let file = PNGImage.encode(width: image.width, height: image.height, rgb: rgb)
      for (one, json) in zip(image.cases, try #require(json["cases"] as? [[String: Any]])) {
        let config = try #require(json["preprocess_cfg"] as? [String: Any])
        let options = try ImageOptions(preprocessConfig: config, size: image.size)
        let found = Tensor<Float>(Shape(3, image.size, image.size))
        try ImagePreparation(options, seed: 0).prepareEvaluation(file, into: found)
        let (values, pixels) = (found.array, image.size * image.size)
        let bytes = (0..<3 * pixels).map { UInt8((values[$0 % 3 * pixels + $0 / 3] * 255).rounded()) }
        #expect(bytes == [UInt8](one.rgb), "\(image.width) × \(image.height), \(config)")
        compared += 1
      }
    }
    #expect(compared == 56)
  }

  @Test func absentKeysAndNullAreCLIPs() throws {
    var clip = ImageOptions().sized(24)
    clip.alpha = .drop
    for json in ["{}", #"{"mean": null, "resize_mode": null, "size": 999, "crop_pct": 0.9, "mode": "RGB"}"#] {
      #expect(try options(json, size: 24) == clip)
    }
    clip.alpha = .white
    #expect(try options("{}", size: 24, alpha: .white) == clip)
    #expect(try options(#"{"alpha": "white"}"#, size: 24) == clip)
    let other = try options(
      #"{"mean": 0.5, "std": [0.1, 0.2, 0.3], "interpolation": "random", "fill_color": [1, 2, 255], "exif": "apply"}"#)
    #expect(other.mean == [0.5, 0.5, 0.5] && other.std == [0.1, 0.2, 0.3] && other.exif == .apply)
    #expect(other.resize.interpolation == .random && other.resize.fillColor == [1, 2, 255])
    #expect(other.identity.hasSuffix(", resize: shortest, random, [1, 2, 255])"), "ranks compare it")
  }

  @Test(arguments: [
    (#"{"mode": "L"}"#, "preprocess_cfg.mode is L, and RGB is wanted"),
    (#"{"size": [224, 256]}"#, "the same for height and width"), (#"{"size": "224"}"#, "size is the text “224”, and"),
    (#"{"interpolation": "lanczos"}"#, "interpolation is lanczos, and bicubic, bilinear or random is wanted"),
    (#"{"interpolation": 3}"#, "interpolation is 3"),
    (#"{"resize_mode": "crop"}"#, "resize_mode is crop, and shortest, longest or squash is wanted"),
    (#"{"fill_color": 256}"#, "fill_color is 256"), (#"{"fill_color": [0, 0]}"#, "[red, green, blue], of 0 to 255"),
    (#"{"fill_color": 0.5}"#, "fill_color is 0.5"), (#"{"mean": 0}"#, "mean is 0, and [red, green, blue] is wanted"),
    (#"{"mean": [0, 0]}"#, "preprocess_cfg.mean is"), (#"{"std": [1, 0, 1]}"#, "preprocess_cfg.std: expected"),
    (#"{"std": true}"#, "std is true, and"), (#"{"mean": [true, 0, 0]}"#, "mean is [true,0,0], and"),
    (#"{"alpha": "black"}"#, "alpha is black, and white or drop"),
  ])
  func othersAreRefusedByName(json: String, words: String) throws {
    let error = try #require(throws: ConfigError.self) { try options(json) }
    #expect("\(error)".contains(words), "\(error)")
  }

  @Test func whatIsWrittenReadsBack() throws {
    var options = ImageOptions().sized(16)
    for mode in EvaluationResize.Mode.allCases {
      for interpolation in [EvaluationResize.Interpolation.bicubic, .bilinear] {
        options.resize.mode = mode
        options.resize.interpolation = interpolation
        (options.alpha, options.exif) = mode == .squash ? (.drop, .ignore) : (.white, .apply)
        options.resize.fillColor = mode == .longest ? [9, 8, 7] : [0, 0, 0]
        #expect(try ImageOptions(preprocessConfig: written(options.preprocessConfig), size: 16) == options)
        guard mode != .longest else {
          #expect(throws: ConfigError.self) { try options.huggingFaceProcessor }
          continue
        }
        let processor = try written(options.huggingFaceProcessor)
        #expect(try ImageOptions(huggingFaceProcessor: processor, size: 16) == options)
        #expect((processor["alpha"] == nil) == (options.alpha == .drop), "CLIPImageProcessor drops alpha itself")
      }
    }
  }

  @Test(arguments: [
    (#"{"do_resize": false}"#, "do_resize is false"), (#"{"size": {"longest_edge": 16}}"#, "the model's 16"),
    (#"{"size": 20}"#, "the model's 16"), (#"{"crop_size": {"height": 16, "width": 12}}"#, "crop_size is"),
    (#"{"do_center_crop": false}"#, "true is wanted with a shortest_edge"), (#"{"resample": 1}"#, "resample is 1"),
    (#"{"resample": 3.3333333333333335}"#, "resample is 3.33"),
    (#"{"rescale_factor": 1}"#, "1/255 is wanted"), (#"{"image_std": [0, 1, 1]}"#, "each more than 0"),
  ])
  func huggingFacesOthersAreRefusedByName(json: String, words: String) throws {
    let object = try object(json)
    let error = try #require(throws: ConfigError.self) { try ImageOptions(huggingFaceProcessor: object, size: 16) }
    #expect("\(error)".contains(words), "\(error)")
  }

  /// Files of Hugging Face's own writing, old and new.
  @Test(arguments: [
    #"{"size": 16, "crop_size": 16, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor"}"#,
    #"{"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}, "rescale_factor": 0.00392156862}"#,
  ])
  func huggingFacesFilesAreCLIPs(json: String) throws {
    #expect(try ImageOptions(huggingFaceProcessor: object(json), size: 16) == options("{}"))
  }
}
