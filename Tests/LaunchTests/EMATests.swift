import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Tests the moving average of a run's weights through the program: its values, its files, and the commands that take
/// it.
@Suite struct EMATests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  private func kinship(_ arguments: [String], ranks: Int? = nil) async throws -> MPIRun {
    let run = try await MPIRun.kinship(arguments, ranks: ranks)
    try #require(run.status == 0, "\(run)")
    return run
  }

  private func average(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(scene.runFolder(name).appending(path: "ema/\(ModelFiles.weights)"))
  }

  private func differences(_ one: SafetensorsFile, _ other: any NamedTensors) throws -> [String] {
    #expect(Set(one.names) == Set(other.names))
    return try one.names.filter { name in
      if try one.type(of: name) == .int64 { return try one.integers(name) != other.integers(name) }
      let (a, b) = (Tensor<Float>(try one.shape(of: name)), Tensor<Float>(try other.shape(of: name)))
      try one.read(name, into: a)
      try other.read(name, into: b)
      return a.array.map(\.bitPattern) != b.array.map(\.bitPattern)
    }
  }

  /// The average equals, to the bit, the one computed from the weights in all checkpoints; on other numbers of ranks it
  /// equals it except for rounding.
  @Test func isTheAverageOfEveryStepsWeights() async throws {
    try await scene.train("source", ["steps=1"], ranks: 1)
    let source = scene.runFolder("source").appending(path: ModelFiles.weights)
    let values = [
      "init.from=\"\(source.path)\"", "ema={decay: 0.6, warmup: true}", "checkpoint.every=1", "checkpoint.keep=all",
      "steps=6",
    ]
    try await scene.train("run", values + ["reduce.bucket=0.002"], ranks: 2)
    for ranks in [1, 3] { try await scene.train("on\(ranks)", values + ["batch.micro_batch_size=2"], ranks: ranks) }
    let (first, last) = (try SafetensorsFile(source), try average("run"))
    let name = "visual.transformer.resblocks.1.mlp.c_fc.weight"
    for name in [name, "token_embedding.weight", "logit_scale", "text_projection"] {
      var expected = try first.tensor(name, as: Float.self).array
      for step in 1...6 {
        let file = scene.folder.path("step\(step).safetensors")
        if !FileManager.default.fileExists(atPath: file) {
          _ = try await kinship(["merge", scene.checkpoint("run", step).path, "-o", file])
        }
        let share = Float(1 - min(0.6, Double(1 + step) / Double(10 + step)))
        for (at, value) in try SafetensorsFile(file).tensor(name, as: Float.self).array.enumerated() {
          expected[at] = expected[at].addingProduct(share, value - expected[at])
        }
      }
      #expect(try last.tensor(name, as: Float.self).array == expected, "\(name)")
      for ranks in [1, 3] {
        let other = try average("on\(ranks)").tensor(name, as: Float.self).array
        #expect(zip(other, expected).allSatisfy { abs($0 - $1) < 1e-5 }, "\(name) on \(ranks)")
      }
    }
    // It is a file beside the weights, which other programs can load.
    let raw = try SafetensorsFile(scene.runFolder("run").appending(path: ModelFiles.weights))
    #expect(try differences(raw, last).contains(name))
    let config = scene.runFolder("run").appending(path: "ema/\(ModelFiles.config)")
    #expect(
      try Data(contentsOf: config) == Data(contentsOf: scene.runFolder("run").appending(path: ModelFiles.config)))
  }

  @Test func goesOnWithTheSameBitsAndOnOtherRanks() async throws {
    let values = ["ema=0.9", "checkpoint.every=4", "steps=8"]
    let losses = try await scene.train("straight", values, ranks: 2)
    // The average does not influence training.
    #expect(try await scene.train("without", ["steps=8"], ranks: 2) == losses)
    let resume = ["--resume", scene.checkpoint("straight", 4).path]
    try await scene.train("rest", values, resume, ranks: 2)
    #expect(try scene.parts("rest", 8) == scene.parts("straight", 8))
    #expect(try differences(average("rest"), average("straight")) == [])
    try await scene.train("other", values, resume, ranks: 3)
    let (one, other) = (try average("straight"), try average("other"))
    for name in one.names {
      let (a, b) = (try one.tensor(name, as: Float.self).array, try other.tensor(name, as: Float.self).array)
      #expect(zip(a, b).allSatisfy { abs($0 - $1) < 1e-5 }, "\(name)")
    }
    // It is complete after the checkpoint is written with other parts.
    let reshaped = scene.folder.path("reshaped")
    _ = try await kinship(["merge", scene.checkpoint("straight", 4).path, "--reshard", "3", "-o", reshaped], ranks: 2)
    try await scene.train("again", values, ["--resume", reshaped], ranks: 2)
    #expect(try scene.parts("again", 8) == scene.parts("straight", 8))

    let late = try await scene.run(
      ["name=late", "ema=0.9", "steps=9"], ["--resume", scene.runFolder("without").path], ranks: 2)
    #expect(late.status == 0 && late.output.contains("ema begins with its weights"), "\(late)")
    #expect(!(try differences(average("late"), average("straight")).isEmpty))
    let early = try await scene.run(
      ["name=early", "steps=9"], ["--resume", scene.runFolder("straight").path], ranks: 3)
    #expect(early.status == 0 && early.output.contains("this run keeps none"), "\(early)")
    #expect(!FileManager.default.fileExists(atPath: scene.runFolder("early").appending(path: "ema").path))
    #expect(try !Checkpoint.open(scene.checkpoint("early", 9).path).manifest.isAveraged)
  }

  private func figures(_ arguments: [String], ranks: Int) async throws -> RetrievalFigures {
    let json = scene.folder.path("figures.json")
    _ = try await kinship(
      ["evaluate", "retrieval", "--candidates", "distinct-captions", "--dataset", scene.dataset, "--json", json]
        + arguments,
      ranks: ranks)
    return try JSONDecoder().decode(RetrievalFigures.self, from: Data(contentsOf: URL(filePath: json)))
  }

  /// Running statistics of a ResNet are averaged too. The buckets of its frozen tower travel for nothing but the
  /// average.
  @Test func everyReaderTakesIt() async throws {
    let values = [
      "model.vision_cfg={image_size: 32, layers: [1, 1, 1, 1], width: 4, head_width: 32}",
      "optimizer.learning_rate=5e-3",
      "reduce.bucket=0.01", "evaluate={every: 4, evaluations: [{kind: retrieval, dataset: \"\(scene.dataset)\"}]}",
      "steps=8",
      "checkpoint.every=8",
    ]
    try await scene.train("free", values + ["ema={decay: 0.5}"], ranks: 2)
    try await scene.train(
      "run", values + ["ema={decay: 0.5, evaluate: ema}", "freeze=[text]"],
      ["--resume", scene.runFolder("free").path]
        + ["--set", "steps=12"], ranks: 2)
    // One log has evaluations of both kinds of weights, the other only of the average.
    let title = "retrieval \(URL(filePath: scene.dataset).lastPathComponent)"
    #expect(
      try scene.log("free", "evaluation").compactMap(\.evaluation) == [title, "\(title) ema", title, "\(title) ema"])
    let logged = try scene.log("run", "evaluation")
    #expect(logged.compactMap(\.evaluation) == ["\(title) ema", "\(title) ema"] && logged.map(\.step) == [8, 12])

    let folder = scene.runFolder("run")
    let file = scene.folder.path("merged.safetensors")
    _ = try await kinship(["merge", folder.path, "--ema-weights", "-o", file], ranks: 3)
    let exported = scene.folder.path("exported")
    _ = try await kinship(["weights", "export", folder.path, "--ema-weights", "--output", exported])
    let average = try average("run")
    #expect(try differences(average, SafetensorsFile(file)) == [])
    #expect(try differences(average, SafetensorsFile("\(exported)/\(ModelFiles.weights)")) == [])
    let raw = try SafetensorsFile(folder.appending(path: ModelFiles.weights))
    let differing = try differences(raw, average)
    #expect(
      differing.contains("visual.bn1.running_mean") && !differing.contains { $0.hasSuffix("num_batches_tracked") })
    #expect(differing.contains("text_projection"), "a tower that was frozen later still has an average behind it")
    let record = try #require(try SafetensorsFile(file).metadata[MergeRecord.key])
    #expect(record.contains("\"emaWeights\":true"), "\(record)")

    let last = try #require(logged.last?.figures)
    for (arguments, ranks) in [
      (["--checkpoint", folder.path, "--ema-weights"], 3), (["--checkpoint", file], 1),
      (
        ["--checkpoint", folder.appending(path: "ema/\(ModelFiles.weights)").path, "--vocabulary", scene.vocabulary], 2
      ),
    ] {
      let figures = try await figures(arguments, ranks: ranks)
      #expect(abs(figures.imageToText.recall5 - (last["i2t R@5"] ?? -1)) < 1e-9, "\(arguments)")
      #expect(abs(figures.textToImage.recall1 - (last["t2i R@1"] ?? -1)) < 1e-9, "\(arguments)")
    }
    // A run may be initialized with it.
    let from = folder.appending(path: "ema").path
    let next = try await scene.run(["name=next", "init.from=\"\(from)\"", "steps=1"] + values.prefix(1), ranks: 2)
    #expect(next.status == 0 && next.output.contains("begins with the weights of \(from)"), "\(next)")
    let all = scene.folder.path("all.h5")
    _ = try await kinship(["merge", folder.path, "--optimizer", "-o", all])
    let names = try HDF5Weights(all).names
    #expect(names.contains("ema.text_projection") && names.contains("ema.visual.bn1.running_mean"), "\(names)")
    #expect(try await figures(["--checkpoint", all], ranks: 1).images == 23)
  }

  @Test func beginsAnewWhenTheModelIsCut() async throws {
    try await scene.train(
      "run",
      [
        "prune={sparsity: 0.4, step: 6, ramp: 0, learning_rate: 1.2}", "ema=0.5", "steps=9",
        "evaluate={every: 3, evaluations: [{kind: retrieval, dataset: \"\(scene.dataset)\"}]}",
      ], ranks: 2)
    let raw = try SafetensorsFile(scene.runFolder("run").appending(path: ModelFiles.weights))
    let average = try average("run")
    for name in raw.names { #expect(try raw.shape(of: name) == average.shape(of: name), "\(name)") }
    #expect(try scene.log("run", "evaluation").map(\.step) == [3, 3, 6, 6, 9, 9])
  }

  @Test func whatIsPlannedAndRefused() async throws {
    let dry = try await scene.run(["ema={decay: 0.999, warmup: false}"], ["--dry-run"], ranks: 2)
    #expect(dry.status == 0 && dry.output.contains(", moving average "), "\(dry)")
    #expect(dry.output.contains("ema: average of the weights with decay 0.999, evaluated beside"), "\(dry)")
    for (value, words) in [
      ("ema=1", "ema.decay: expected more than 0 and less than 1, found 1.0"),
      ("ema={decay: 0}", "ema.decay: expected"),
      ("ema=often", "ema: expected a number or none, found the text \"often\""),
      ("ema={rate: 1}", "unknown key \"rate\" in ema"),
      ("ema={evaluate: all}", "ema.evaluate: expected both, ema or raw"),
    ] {
      let run = try await scene.run([value], ["--dry-run"], ranks: nil)
      #expect(run.status == 64 && run.errors.contains(words), "\(run)")
    }
    try await scene.train("bare", ["steps=1"], ranks: 1)
    let folder = scene.runFolder("bare").path
    let file = scene.runFolder("bare").appending(path: ModelFiles.weights).path
    let output = scene.folder.path("new.safetensors")
    for (arguments, status, words) in [
      (["merge", folder, "--ema-weights", "-o", output], 65, "holds no moving average of the weights"),
      (["merge", folder, "--ema-weights", "--optimizer", "-o", output], 64, "leave --ema-weights out"),
      (["merge", folder, "--ema-weights", "--reshard", "2", "-o", output], 64, "leave --optimizer, --ema-weights"),
      (["weights", "export", file, "--ema-weights", "--output", output], 64, "--ema-weights belongs to a run"),
      (
        ["evaluate", "retrieval", "--checkpoint", folder, "--ema-weights", "--dataset", scene.dataset], 65,
        "holds no moving average of the weights: its run had no ema"
      ),
      (
        ["evaluate", "retrieval", "--checkpoint", file, "--ema-weights", "--dataset", scene.dataset], 64,
        "--ema-weights belongs to a run or a checkpoint"
      ),
    ] {
      let run = try await MPIRun.kinship(arguments, ranks: nil)
      #expect(run.status == status && run.errors.contains(words), "\(arguments): \(run)")
      #expect(!FileManager.default.fileExists(atPath: output))
    }
  }
}
