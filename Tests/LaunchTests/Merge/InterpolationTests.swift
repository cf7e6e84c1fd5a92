import Dist
import Foundation
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Tests averages between weights and a run that was tuned from them: what is merged, and what is evaluated on the way.
@Suite struct InterpolationTests {
  let scene: TrainScene

  init() async throws {
    scene = try await TrainScene()
    try await scene.train("source", ["steps=3", "optimizer.learning_rate=1e-2"], ranks: nil)
    let from = "init.from=\"\(scene.runFolder("source").path)\""
    try await scene.train("tuned", [from, "steps=4", "optimizer.learning_rate=1e-2"], ranks: 2)
  }

  /// The weights of the first run without its checkpoints.
  private var source: String { scene.runFolder("source").appending(path: ModelFiles.weights).path }
  private var tuned: String { scene.runFolder("tuned").path }
  private var evaluation: [String] {
    ["evaluate", "retrieval", "--dataset", scene.dataset, "--vocabulary", scene.vocabulary, "--checkpoint"]
  }

  private struct Line: Decodable {
    struct Point: Decodable {
      let weight: Double
      let figures: RetrievalFigures

      enum CodingKeys: CodingKey { case weight }

      init(from decoder: any Decoder) throws {
        figures = try RetrievalFigures(from: decoder)
        weight = try decoder.container(keyedBy: CodingKeys.self).decode(Double.self, forKey: .weight)
      }
    }
    let points: [Point]
  }

  private func figures<Figures: Decodable>(
    _ arguments: [String], ranks: Int?, as _: Figures.Type
  ) async throws -> Figures {
    let json = scene.folder.path("figures.json")
    let run = try await MPIRun.kinship(evaluation + arguments + ["--json", json], ranks: ranks)
    try #require(run.status == 0, "\(run)")
    return try JSONDecoder().decode(Figures.self, from: Data(contentsOf: URL(filePath: json)))
  }

  @Test func theMergedModelLiesOnTheLine() async throws {
    var files: [Data] = []
    for (name, ranks) in [("alone", nil), ("on2", 2)] {
      let path = scene.folder.path("\(name).safetensors")
      let run = try await MPIRun.kinship(
        ["merge", source, tuned, "--average", "--weights", "0.3,0.7", "-o", path], ranks: ranks)
      try #require(run.status == 0 && run.output.contains("0.3 × \(source)\n0.7 × "), "\(run)")
      files.append(try Data(contentsOf: URL(filePath: path)))
    }
    #expect(files[0] == files[1])
    let merged = scene.folder.path("alone.safetensors")
    let (before, between) = (try WeightsFile.open(source), try WeightsFile.open(merged))
    let after = try WeightsFile.open(scene.runFolder("tuned").appending(path: ModelFiles.weights).path)
    #expect(Set(between.names) == Set(before.names))
    for name in before.names {
      let values = try [before, after, between].map { file in
        let tensor = Tensor<Float>(try file.shape(of: name))
        try file.read(name, into: tensor)
        return tensor.doubles
      }
      for at in values[0].indices {
        let exact = 0.3 * values[0][at] + 0.7 * values[1][at]
        #expect(abs(values[2][at] - exact) <= Double(Float(exact).ulp) / 2 * 1.0001, "\(name)[\(at)]")
      }
      #expect(values[0] != values[1])
    }
    let record = try #require(try MergeRecord(in: between))
    #expect(record.average == "weights" && record.step == 4 && record.sources.map(\.step) == [nil, 4])
    #expect(record.sources.map(\.run) == [nil, "tuned"] && record.sources[0].checkpoint == source)
    #expect(try record.sources[0].sha256 == SHA256.ofFile(source))

    let line = try await figures(
      [source, "--interpolate-to", tuned, "--interpolate-steps", "10"], ranks: 2, as: Line.self)
    #expect(line.points.map(\.weight) == (0...10).map { Double($0) / 10 })
    for (point, model) in [(0, source), (7, merged), (10, tuned)] {
      let found = try await figures([model], ranks: nil, as: RetrievalFigures.self)
      #expect(line.points[point].figures == found, "\(point)")
    }
    #expect(line.points[0].figures != line.points[10].figures)
  }

  @Test func theTableForPeople() async throws {
    let run = try await MPIRun.kinship(
      evaluation + [tuned, "--interpolate-to", source, "--interpolate-steps", "2"], ranks: nil)
    let lines = run.output.split(separator: "\n")
    #expect(run.status == 0 && lines.count == 5 && lines[0].hasPrefix("retrieval on "), "\(run)")
    #expect(lines[1].split(separator: " ").prefix(3) == ["weight", "i2t", "R@1,"], "\(run)")
    #expect(lines[2...].map { $0.split(separator: " ")[0] } == ["0", "0.5", "1"], "\(run)")
  }

  @Test func whatIsRefused() async throws {
    try await scene.train("narrow", ["steps=1", "model.embed_dim=24"], ranks: nil)
    let narrow = scene.runFolder("narrow").path
    let checkpoint = scene.checkpoint("source", 3).path
    let cases: [([String], Int, String)] = [
      (["merge", source, narrow, "--average"], 65, "the model's embed_dim is 24, not 16"),
      (["merge", source, tuned, "--ema", "0.5"], 64, "does not say how many steps it was trained; --ema takes"),
      (["merge", source, source, "--average"], 64, "is named twice; name each model once"),
      (["merge", source, "\(source).pt", "--average"], 74, "there is no such file or folder"),
      (["merge", source, checkpoint, "--average", "--ema-weights"], 65, "holds no moving average"),
      (["merge", tuned, narrow, "--average", "--preset", "RN50"], 64, "--config and --preset belong to weights"),
      (evaluation + [source, "--interpolate-to", narrow], 65, "\(narrow) does not hold the same model"),
      (evaluation + [source, "--interpolate-to", narrow], 65, "the model's embed_dim is 24, not 16"),
      // The option belongs to the run, be it the first model or the second.
      (evaluation + [source, "--interpolate-to", tuned, "--ema-weights"], 65, "step-00000004: it holds no moving"),
      (evaluation + [tuned, "--interpolate-to", source, "--ema-weights"], 65, "step-00000004: it holds no moving"),
      (evaluation + [source, "--interpolate-steps", "3"], 64, "--interpolate-steps belongs to --interpolate-to"),
      (
        evaluation + [source, "--interpolate-to", tuned, "--interpolate-steps", "0"], 64,
        "--interpolate-steps: expected 1 to 1000 steps, found 0"
      ),
    ]
    let output = scene.folder.path("x.safetensors")
    for (arguments, status, words) in cases {
      let run = try await MPIRun.kinship(arguments + (arguments[0] == "merge" ? ["-o", output] : []), ranks: nil)
      #expect(run.status == status && run.errors.contains(words), "“\(words)” is not in \(run)")
    }
    #expect(!FileManager.default.fileExists(atPath: output))
  }
}
