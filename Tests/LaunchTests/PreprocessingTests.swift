import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Commands prepare the images of other programs' models as their files say, and files keep what they say.
@Suite struct PreprocessingTests {
  private static let config = """
    {"mean": [0.48145466, 0.4578275, 0.40821073], "std": 0.5, "size": [16, 16], "mode": "RGB", "fill_color": 7,
     "interpolation": "random", "resize_mode": "longest", "crop_pct": 0.875}
    """

  /// Writes a config with the sizes of a scene's model, and returns its path.
  private func write(_ preprocessing: String, _ scene: EvaluationScene, _ name: String) throws -> String {
    let sizes = try String(contentsOfFile: scene.folder.path("model.json"), encoding: .utf8)
    return try scene.folder.write(name, "{\"model_cfg\": \(sizes), \"preprocess_cfg\": \(preprocessing)}".utf8)
  }

  private func same(_ object: [String: Any]?) throws -> Data {
    try JSONSerialization.data(withJSONObject: #require(object), options: .sortedKeys)
  }

  @Test func importAndExportKeepIt() async throws {
    let scene = try EvaluationScene(count: 1)
    let path = try write(Self.config, scene, "config.json")
    let kept = try same(ModelFiles.preprocessConfig(path))
    func convert(_ arguments: [String], _ output: String, status: Int = 0) async throws -> MPIRun {
      let run = try await MPIRun.kinship(["weights"] + arguments + ["-o", scene.folder.path(output)], ranks: nil)
      #expect(run.status == status, "\(run)")
      return run
    }
    func config(_ folder: String) throws -> [String: Any]? {
      try ModelFiles.preprocessConfig(scene.folder.path("\(folder)/\(ModelFiles.config)"))
    }
    _ = try await convert(["import", scene.folder.path("model.safetensors"), "--config", path], "in")
    #expect(try same(config("in")) == kept)
    _ = try await convert(["export", scene.folder.path("in")], "out")
    #expect(try same(config("out")) == kept)
    _ = try await convert(["import", scene.folder.path("in"), "--image-size", "32"], "large")
    var large = try #require(try config("large"))
    #expect(large["size"] as? Int == 32)
    large["size"] = [16, 16]
    #expect(try same(large) == kept)
    let refused = try await convert(["export", scene.folder.path("in"), "--form", "hugging_face"], "hf", status: 65)
    #expect(refused.errors.contains("resize_mode is longest"), "\(refused)")
    #expect(!FileManager.default.fileExists(atPath: scene.folder.path("hf")))
  }

  @Test func embedObeysIt() async throws {
    let scene = try EvaluationScene(count: 20)
    // Colours lie under pixels that cannot be seen.
    let bytes = (0..<40 * 12 * 4).map { (at: Int) -> UInt8 in
      let value = at % 4 == 3 ? (at / 4 % 3) * 127 : (at * 7) % 256
      return UInt8(value)
    }
    let image = PNGImage.encode(width: 40, height: 12, rgba: bytes)
    let path = try scene.folder.write("rgba.png", image)
    let cases: [(String, [String], String)] = [
      ("{}", [], "resize_mode shortest, interpolation bicubic, alpha drop"),
      ("{}", ["--alpha", "white"], "resize_mode shortest, interpolation bicubic, alpha white"),
      (#"{"alpha": "white"}"#, [], "interpolation bicubic, alpha white"),
      (#"{"resize_mode": "squash", "interpolation": "bilinear", "mean": 0.5}"#, [], "bilinear, alpha drop"),
      (#"{"resize_mode": "longest", "fill_color": 99}"#, [], "longest, fill_color [99, 99, 99], interpolation bicubic"),
    ]
    var found: [[Float]] = []
    for (index, (preprocessing, arguments, text)) in cases.enumerated() {
      let config = try write(preprocessing, scene, "config.json")
      let output = scene.folder.path("\(index).h5")
      let run = try await MPIRun.kinship(
        ["embed", "--images", path, "--output", output] + source(scene, config) + arguments, ranks: nil)
      #expect(run.status == 0 && run.errors.contains("kinship: images: size 16, "), "\(run)")
      #expect(run.errors.contains(text), "\(run)")
      var options = try ModelFiles.preprocessing(config, size: 16)
      if !arguments.isEmpty { options.alpha = .white }
      let file = try HDF5File.open(output)
      #expect(try file.attributes.string("alpha") == options.alpha.rawValue)
      found.append(try file.dataset("image").read(Float.self))
      for (one, other) in zip(found[index], try scene.embedding(image: image, options)) {
        #expect(abs(Double(one) - other) < 1e-5, "\(preprocessing)")
      }
    }
    #expect(found[1] == found[2])
    for (one, other) in [(0, 1), (0, 3), (0, 4), (3, 4)] {
      #expect(zip(found[one], found[other]).contains { abs($0 - $1) > 1e-3 }, "\(one) and \(other) do not differ")
    }
  }

  /// A preset has sizes alone: the file beside the weights still says how images are prepared, and must agree.
  @Test func aPresetLeavesItToTheFileBeside() async throws {
    let folder = try TemporaryFolder()
    var config = try CLIPConfig(preset: "ViT-64-T-16")
    config.text.vocabularySize = 600
    let model = CLIP<Float>(config, frozen: true)
    for entry in model.entries { copy(.random(entry.shape, entry.name), into: model.parameters.value(of: entry)) }
    try ModelFiles.write(
      model, preprocessing: ImageOptions(), keeping: ["resize_mode": "squash", "mean": 0.5], to: folder.url)
    let bytes = (0..<40 * 12 * 3).map { UInt8($0 * 7 % 256) }
    let image = try folder.write("image.png", PNGImage.encode(width: 40, height: 12, rgb: bytes))
    func embed(_ model: [String], status: Int = 0) async throws -> MPIRun {
      let run = try await MPIRun.kinship(
        ["embed", "--checkpoint", folder.url.path, "--images", image, "--output", "-"] + model, ranks: nil)
      #expect(run.status == status, "\(run)")
      return run
    }
    let wanted = try await embed([])
    let found = try await embed(["--model", "ViT-64-T-16"])
    #expect(found.errors.contains("resize_mode squash") && found.output == wanted.output, "\(found)")
    let other = try await embed(["--model", "ViT-64-T-16-quickgelu"], status: 65)
    #expect(other.errors.contains("says the activation gelu, and not quick_gelu; leave --model out"), "\(other)")
    try FileManager.default.removeItem(atPath: folder.path(ModelFiles.config))
    let alone = try await embed([], status: 64)
    #expect(alone.errors.contains("--model is needed with it unless open_clip_config.json lies beside it"), "\(alone)")
  }

  @Test func evaluateSaysIt() async throws {
    let scene = try EvaluationScene(count: 20)
    let own = try source(scene, write("{}", scene, "config.json"))
    let json = scene.folder.path("figures.json")
    let evaluate = ["evaluate", "zero-shot", "--dataset", scene.dataset, "--json", json]
    let cases: [([String], String)] = [([], "drop"), (["--alpha", "white"], "white")]
    for (arguments, alpha) in cases {
      let run = try await MPIRun.kinship(evaluate + own + arguments, ranks: nil)
      #expect(run.status == 0 && run.errors.contains("alpha \(alpha) "), "\(run)")
      let figures = try ModelFiles.object(Data(contentsOf: URL(filePath: json)), json)
      #expect(figures["alpha"] as? String == alpha)
    }
    let unknown = try await MPIRun.kinship(evaluate + own + ["--alpha", "black"], ranks: nil)
    #expect(unknown.status == 64 && unknown.errors.contains("--alpha is white or drop, not black"), "\(unknown)")
    let other = try source(scene, write(#"{"interpolation": "lanczos"}"#, scene, "lanczos.json"))
    let refused = try await MPIRun.kinship(evaluate + other, ranks: nil)
    #expect(refused.status == 65, "\(refused)")
    #expect(refused.errors.contains("preprocess_cfg.interpolation is lanczos, and bicubic, bilinear"), "\(refused)")
  }

  /// What a run writes says that its images were laid on white; another program's file says nothing of it.
  @Test func oursAreLaidOnWhite() throws {
    let scene = try EvaluationScene(count: 1)
    let file = scene.folder.path(ModelFiles.config)
    try ModelFiles.json(scene.model.config, preprocessing: ImageOptions()).write(to: URL(filePath: file))
    #expect(try ModelFiles.preprocessing(file, size: 16) == ImageOptions().sized(16))
    #expect(try ModelFiles.preprocessing(write("{}", scene, "config.json"), size: 16).alpha == .drop)
    let broken = try write("[1]", scene, "broken.json")
    let error = try #require(throws: UserError.self) { try ModelFiles.preprocessing(broken, size: 16) }
    #expect("\(error)".contains("broken.json: preprocess_cfg is") && error.status == .badData)
  }

  private func source(_ scene: EvaluationScene, _ config: String) -> [String] {
    [
      "--checkpoint", scene.folder.path("model.safetensors"), "--model", config,
      "--vocabulary", scene.folder.path("vocabulary.txt.gz"),
    ]
  }
}
