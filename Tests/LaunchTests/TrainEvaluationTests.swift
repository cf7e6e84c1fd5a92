import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Tests the uses of a trained model: evaluation during training, from checkpoints, and from open_clip's files.
@Suite struct TrainEvaluationTests {
  let scene: TrainScene
  /// There are more images than one block holds, so that several ranks have work.
  let other: EvaluationScene

  init() async throws {
    scene = try await TrainScene()
    other = try EvaluationScene(count: 150)
  }

  private func evaluate<Figures: Decodable>(
    _ arguments: [String], _ checkpoint: URL, _ options: [String] = [], ranks: Int?, as _: Figures.Type
  ) async throws -> Figures {
    let json = scene.folder.path("figures.json")
    let run = try await MPIRun.kinship(
      ["evaluate"] + arguments + ["--checkpoint", checkpoint.path, "--json", json] + options, ranks: ranks)
    try #require(run.status == 0, "\(run)")
    return try JSONDecoder().decode(Figures.self, from: Data(contentsOf: URL(filePath: json)))
  }

  @Test func checkpointsAndFilesGiveTheSameFigures() async throws {
    try await scene.train("tiny", ["checkpoint.every=4"], ranks: 2)
    let run = scene.runFolder("tiny")
    let retrieval = ["retrieval", "--dataset", other.dataset]
    let first = try await evaluate(retrieval, run, ranks: nil, as: RetrievalFigures.self)
    for ranks in [1, 2, 3] {
      #expect(
        try await evaluate(retrieval, scene.checkpoint("tiny", 10), ranks: ranks, as: RetrievalFigures.self) == first)
    }
    // Another model gives other figures.
    #expect(
      try await evaluate(retrieval, scene.checkpoint("tiny", 4), ranks: nil, as: RetrievalFigures.self) != first)

    let zeroShot = ["zero-shot", "--dataset", other.dataset]
    let classified = try await evaluate(zeroShot, run, ranks: nil, as: ZeroShotFigures.self)
    for ranks in [2, 3] {
      #expect(try await evaluate(zeroShot, run, ranks: ranks, as: ZeroShotFigures.self) == classified)
    }

    let weights = run.appending(path: "open_clip_model.safetensors")
    let words = ["--vocabulary", scene.vocabulary]
    #expect(try await evaluate(retrieval, weights, words, ranks: 2, as: RetrievalFigures.self) == first)
    let sizes = ["--model", run.appending(path: "open_clip_config.json").path]
    #expect(try await evaluate(zeroShot, weights, words + sizes, ranks: nil, as: ZeroShotFigures.self) == classified)
  }

  @Test func openClipsFiles() async throws {
    let run = try await scene.run(["steps=2", "image.alpha=drop"], ranks: 2)
    try #require(run.status == 0, "\(run)")
    #expect(run.output.contains("tiny/open_clip_model.safetensors"), "\(run)")
    let folder = scene.runFolder("tiny")
    let data = try Data(contentsOf: folder.appending(path: "open_clip_config.json"))
    let config = try CLIPConfig(json: data)
    let top = try #require(try JSONSerialization.jsonObject(with: data) as? [String: [String: Any]])
    #expect(Set(top.keys) == ["model_cfg", "preprocess_cfg"])
    let preprocessing = try #require(top["preprocess_cfg"])
    #expect(preprocessing["interpolation"] as? String == "bicubic")
    #expect(preprocessing["resize_mode"] as? String == "shortest")
    #expect(try #require(preprocessing["mean"] as? [Double]).map { Float($0) } == [0.4, 0.5, 0.6])
    #expect(try #require(preprocessing["std"] as? [Double]).map { Float($0) } == [0.2, 0.25, 0.3])
    #expect(preprocessing["alpha"] as? String == "drop")

    let file = try SafetensorsFile(folder.appending(path: "open_clip_model.safetensors").path)
    #expect(file.metadata == ["activation": "gelu", "format": "pt"])
    let block = [
      "attn.in_proj_bias": [96], "attn.in_proj_weight": [96, 32], "attn.out_proj.bias": [32],
      "attn.out_proj.weight": [32, 32], "ln_1.bias": [32], "ln_1.weight": [32], "ln_2.bias": [32],
      "ln_2.weight": [32], "mlp.c_fc.bias": [128], "mlp.c_fc.weight": [128, 32], "mlp.c_proj.bias": [32],
      "mlp.c_proj.weight": [32, 128],
    ]
    var expected = [
      "logit_scale": [], "positional_embedding": [8, 32], "text_projection": [32, 16],
      "token_embedding.weight": [config.text.vocabularySize, 32], "ln_final.bias": [32], "ln_final.weight": [32],
      "visual.class_embedding": [32], "visual.conv1.weight": [32, 3, 8, 8], "visual.positional_embedding": [5, 32],
      "visual.proj": [32, 16], "visual.ln_pre.bias": [32], "visual.ln_pre.weight": [32], "visual.ln_post.bias": [32],
      "visual.ln_post.weight": [32],
    ]
    for layer in 0..<2 {
      for (name, shape) in block {
        expected["transformer.resblocks.\(layer).\(name)"] = shape
        expected["visual.transformer.resblocks.\(layer).\(name)"] = shape
      }
    }
    let found = try Dictionary(uniqueKeysWithValues: file.names.map { ($0, try file.shape(of: $0).array) })
    #expect(found == expected)

    // A run that is complete writes them again when it is resumed.
    try FileManager.default.removeItem(at: folder.appending(path: "open_clip_model.safetensors"))
    try await scene.train("tiny", ["steps=2"], ["--resume", "latest"], ranks: nil)
    #expect(FileManager.default.fileExists(atPath: folder.appending(path: "open_clip_model.safetensors").path))
  }

  @Test func whileTraining() async throws {
    let evaluations =
      "[{kind: retrieval, dataset: \"\(other.dataset)\"}, {kind: zero-shot, dataset: \"\(scene.dataset)\"}]"
    let set = ["evaluate.evaluations=\(evaluations)", "evaluate.every=5"]
    let losses = try await scene.train("tiny", set, ranks: 2)
    #expect(losses == (try await scene.train("plain", ranks: 2)), "measuring changes nothing")
    let lines = try scene.log("tiny", "evaluation")
    #expect(lines.map { $0.step } == [5, 5, 10, 10])
    #expect(
      lines.map { $0.evaluation } == [
        "retrieval scene", "zero-shot corpus", "retrieval scene", "zero-shot corpus",
      ])
  }
}
