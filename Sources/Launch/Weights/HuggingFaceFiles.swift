import Dist
import Foundation
import Model
import Tensor

/// The files of Hugging Face's `CLIPModel` in one folder: weights, sizes, and the preparation of images.
enum HuggingFaceFiles {
  static let weights = "model.safetensors"
  static let config = "config.json"
  static let preprocessor = "preprocessor_config.json"

  /// Writes the three files into an existing folder. `CLIPModel` has no logit bias, on which neither its softmaxes nor
  /// rankings depend, so the bias is left out.
  ///
  /// - Throws: a `ConfigError` for a model that `CLIPModel` cannot represent, such as a ResNet; a `UserError` if a file
  ///   cannot be written.
  static func write(_ model: CLIP<Float>, preprocessing: ImageOptions, to folder: URL) throws {
    let sizes = try model.config.huggingFaceJSON
    let entries = model.entries.filter { $0.name != CLIPConfig.logitBias }.flatMap { entry in
      pieces(of: entry.name, model.parameters.value(of: entry)).map { SafetensorsEntry($0, $1) }
    }
    try SafetensorsFile.write(
      entries, metadata: ModelFiles.metadata(model.config),
      to: folder.appending(path: weights).path(percentEncoded: false))
    try ModelFiles.write(sizes, to: folder.appending(path: config))
    try ModelFiles.write(
      JSONSerialization.data(withJSONObject: object(preprocessing), options: [.prettyPrinted, .sortedKeys]),
      to: folder.appending(path: preprocessor))
  }

  /// Returns one of our tensors under Hugging Face's names and in its layout.
  private static func pieces(of name: String, _ value: Tensor<Float>) -> [(String, Tensor<Float>)] {
    guard let place = HuggingFaceNames.place(of: name) else {
      preconditionFailure("\(name) has no place among Hugging Face's names")
    }
    if place.isTransposed {
      let theirs = Tensor<Float>(Shape(value.columns, value.rows))
      transpose(value, into: theirs)
      return [(place.names[0], theirs)]
    }
    guard place.names.count > 1 else { return [(place.names[0], value)] }
    var sizes = value.shape.array
    sizes[0] /= place.names.count
    let part = value.count / place.names.count
    return place.names.enumerated().map { index, name in
      let piece = value.slice(index * part..<(index + 1) * part)
      return (name, piece.reshaped(Shape(sizes) ?? piece.shape))
    }
  }

  /// Returns the settings of Hugging Face's `CLIPImageProcessor`.
  private static func object(_ options: ImageOptions) -> [String: Any] {
    [
      "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": true, "do_resize": true,
      "size": ["shortest_edge": options.size], "resample": 3, "do_center_crop": true,
      "crop_size": ["height": options.size, "width": options.size], "do_rescale": true,
      "rescale_factor": 1.0 / 255, "do_normalize": true,
      // Converted directly, 0.1 as a Float would become 0.10000000149 as a Double.
      "image_mean": options.mean.map { Double("\($0)") ?? Double($0) },
      "image_std": options.std.map { Double("\($0)") ?? Double($0) },
    ]
  }

  /// Returns the normalisation in the preprocessor's file beside a config; nil for values that it does not give.
  static func normalisation(beside config: String) throws -> (mean: [Float]?, std: [Float]?) {
    let path = URL(filePath: config).deletingLastPathComponent().appending(path: preprocessor).relativePath
    guard FileManager.default.fileExists(atPath: path) else { return (nil, nil) }
    struct Processor: Decodable {
      var imageMean: [Float]?
      var imageStd: [Float]?
    }
    do {
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      let found = try decoder.decode(Processor.self, from: Data(contentsOf: URL(filePath: path)))
      return (found.imageMean, found.imageStd)
    } catch let error as DecodingError {
      throw UserError(path, "\(error)")
    } catch {
      throw UserError(path, error.systemReason, status: .inputOutput)
    }
  }
}
