import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Runs of a tiny ResNet: statistics over all ranks or of each, in checkpoints, files and evaluations.
@Suite struct ResNetTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  private static let resNet = [
    "model.vision_cfg={image_size: 32, layers: [1, 1, 2, 1], width: 4, head_width: 32}", "steps=6",
  ]
  private static let synchronized = resNet + ["model.sync_bn=true"]

  /// The buffers in the last checkpoint.
  private func buffers(_ name: String, _ step: Int = 6) throws -> [String: [Double]] {
    let arrays = try Checkpoint.open(scene.checkpoint(name, step).path).manifest.record.arrays
    return Dictionary(uniqueKeysWithValues: arrays.map { ($0.name, $0.values) })
  }

  @Test func synchronizedLossesDoNotDependOnRanks() async throws {
    let alone = try await scene.train("on1", Self.synchronized, ranks: 1)
    #expect(alone.count == 6 && alone.allSatisfy { $0.isFinite })
    for ranks in [2, 3] {
      let losses = try await scene.train("on\(ranks)", Self.synchronized, ranks: ranks)
      #expect(difference(losses, alone) < 2e-3, "\(ranks): \(losses), alone \(alone)")
      #expect(difference([losses[0]], [alone[0]]) < 1e-5, "\(ranks): \(losses), alone \(alone)")
    }
    // On one rank there is nobody to meet; on two, each has statistics of its own.
    #expect(try await scene.train("own1", Self.resNet, ranks: 1) == alone)
    let apart = try await scene.train("own2", Self.resNet, ranks: 2)
    #expect(difference([apart[0]], [alone[0]]) > 1e-3, "\(apart), alone \(alone)")
  }

  @Test func goesOnWithTheSameBitsAndStatistics() async throws {
    let straight = try await scene.train("straight", Self.resNet + ["checkpoint.every=3"], ranks: 2)
    let rest = try await scene.train(
      "rest", Self.resNet + ["checkpoint.every=3"], ["--resume", scene.checkpoint("straight", 3).path], ranks: 2)
    #expect(rest == Array(straight.dropFirst(3)))
    let (once, before, again) = (try buffers("straight"), try buffers("straight", 3), try buffers("rest"))
    #expect(once == again && once != before)
    #expect(once["visual.bn1.num_batches_tracked"] == [6] && before["visual.layer3.1.bn2.num_batches_tracked"] == [3])
    let norms = 3 + 5 * 3 + 4
    #expect(once.count == 3 * norms)
  }

  @Test func microBatchesMoveStatisticsOnceAStep() async throws {
    // 7 = 3 + 4 on two ranks: two chunks each, of 1 and 2 or of 2 and 2 images.
    let microBatchSize = Self.synchronized + ["batch.micro_batch_size=2"]
    try await scene.train("pieces", microBatchSize, ranks: 2)
    let found = try buffers("pieces")
    for (name, values) in found where name.hasSuffix("num_batches_tracked") { #expect(values == [6], "\(name)") }
    try await scene.train("whole", Self.synchronized, ranks: 2)
    // The first layer's input is the same whatever the pieces, and the mean of their means is the mean.
    let difference = zip(found["visual.bn1.running_mean"] ?? [], try buffers("whole")["visual.bn1.running_mean"] ?? [])
      .map { abs($0 - $1) }.max()
    #expect(try #require(difference) < 1e-2)
  }

  @Test func evaluationsUseTheRunningStatistics() async throws {
    let values =
      Self.resNet + [
        "evaluate={evaluations: [{kind: retrieval, dataset: \"\(scene.dataset)\"}]}"
      ]
    try await scene.train("run", values, ranks: 2)
    let logged = try #require(try scene.log("run", "evaluation").last?.figures)
    let folder = scene.runFolder("run")
    let weights = folder.appending(path: "open_clip_model.safetensors").path
    for (source, ranks) in [(folder.path, 1), (folder.path, 3), (weights, 2)] {
      let json = scene.folder.path("figures.json")
      let run = try await MPIRun.kinship(
        [
          "evaluate", "retrieval", "--candidates", "distinct-captions", "--checkpoint", source, "--dataset",
          scene.dataset,
          "--json", json, "--vocabulary", scene.vocabulary,
        ], ranks: ranks)
      try #require(run.status == 0, "\(run)")
      let figures = try JSONDecoder().decode(RetrievalFigures.self, from: Data(contentsOf: URL(filePath: json)))
      #expect(figures.imageToText.recall1 == logged["i2t R@1"] && figures.textToImage.recall5 == logged["t2i R@5"])
    }
    // Counts are integers there, as PyTorch has them.
    let file = try SafetensorsFile(weights)
    #expect(try file.integers("visual.layer4.0.downsample.1.num_batches_tracked") == [6])
  }

  @Test func whatIsRefused() async throws {
    let transformer = try await scene.run(["model.sync_bn=true"], ranks: 1)
    #expect(transformer.status == 65, "\(transformer)")
    #expect(
      transformer.errors.contains("sync_bn is true, and a vision transformer has no batch norm"), "\(transformer)")
    let few = try await scene.run(Self.resNet + ["batch.global=2"], ranks: 3)
    #expect(few.status == 65, "\(few)")
    #expect(few.errors.contains("raise batch.global to 3 or more, or set model.sync_bn to true"), "\(few)")
    try await scene.train("few", Self.synchronized + ["batch.global=2", "steps=2"], ranks: 3)
  }

  @Test func dryRunSaysWhatItIs() async throws {
    let run = try await scene.run(Self.resNet, ["--dry-run"], ranks: 1)
    #expect(run.status == 0, "\(run)")
    #expect(run.output.contains("ResNet of 1, 1, 2, 1 blocks, 4 wide, 32 px; text"), "\(run)")
    #expect(run.output.contains("batch norm with the statistics of each rank"), "\(run)")
  }
}

/// Weights and buffers of a ResNet in open_clip's form.
@Suite struct ResNetFileTests {
  private static let config = CLIPConfig(
    embedding: 4, vision: VisionConfig(imageSize: 32, stages: [1, 1, 1, 1], width: 2, headWidth: 16),
    text: TextConfig(contextLength: 4, vocabularySize: 9, width: 4, heads: 2, layers: 1))

  private static func model() -> CLIP<Float> {
    let model = CLIP<Float>(config)
    model.initialize(seed: 1)
    for index in 0..<model.parameters.bufferValues.count { model.parameters.bufferValues[index] = Double(index % 7) }
    return model
  }

  @Test func writesWhatItReads() throws {
    let folder = try TemporaryFolder()
    let model = Self.model()
    try ModelFiles.write(model, preprocessing: ImageOptions(), to: folder.url)
    let copy = CLIP<Float>(try ModelFiles.sizes(folder.path(ModelFiles.config)), frozen: true)
    #expect(copy.config == Self.config)
    try ModelFiles.read(folder.path(ModelFiles.weights), into: copy)
    #expect(copy.parameters.values.array == model.parameters.values.array)
    #expect(copy.parameters.bufferValues.array == model.parameters.bufferValues.array)
  }

  @Test func whatDoesNotFitIsListed() throws {
    let folder = try TemporaryFolder()
    let model = Self.model()
    let store = model.parameters
    var entries = store.entries.map { SafetensorsEntry($0.name, store.value(of: $0)) }
    for buffer in store.buffers {
      switch buffer.name {
      case "visual.bn1.running_mean": continue
      case "visual.bn2.running_var": entries.append(SafetensorsEntry(buffer.name, Tensor<Float>(Shape(3))))
      case "visual.bn3.num_batches_tracked": entries.append(SafetensorsEntry(buffer.name, Tensor<Float>(Shape())))
      case "visual.bn3.running_mean":
        entries.append(SafetensorsEntry(buffer.name, integers: [1, 2], shape: Shape(2)))
      default:
        entries.append(
          buffer.isCount
            ? SafetensorsEntry(buffer.name, integers: [3], shape: Shape())
            : SafetensorsEntry(buffer.name, Tensor<Double>(buffer.shape)))
      }
    }
    entries.append(SafetensorsEntry("visual.bn4.running_mean", Tensor<Float>(Shape(2))))
    let path = folder.path("weights.safetensors")
    try SafetensorsFile.write(entries, to: path)
    let error = #expect(throws: UserError.self) { try ModelFiles.read(path, into: model) }
    #expect(error?.status == .badData)
    let reasons = (error?.reason ?? "").components(separatedBy: "\n  ").dropFirst().sorted()
    #expect(
      reasons == [
        "misshapen: visual.bn2.running_var is [3], the model's is [1]", "missing: visual.bn1.running_mean [1]",
        "of another type: visual.bn3.num_batches_tracked holds F32",
        "of another type: visual.bn3.running_mean holds I64", "unexpected: visual.bn4.running_mean",
      ])
  }
}
