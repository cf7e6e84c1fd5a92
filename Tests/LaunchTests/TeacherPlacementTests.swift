import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Real jobs with the teacher's weights in each placement, which changes memory and nothing else.
@Suite struct TeacherPlacementTests {
  let scene: TeacherScene

  init() async throws { scene = try await TeacherScene() }

  /// The losses of ten steps, which depend on every bit of the teacher's embeddings, are the same in all placements.
  @Test(arguments: [1, 2, 3]) func lossesAreTheSameToTheBit(ranks: Int) async throws {
    let file = ["teacher.model=\"\(scene.weights)\"", "teacher.vocabulary=\"\(scene.words)\""]
    let wanted = try await scene.train("wanted", ["teacher.placement=replicated"], ranks: ranks)
    for placement in TeacherPlacement.allCases where placement != .replicated {
      let name = "\(placement.rawValue)"
      let values = ["teacher.placement=\(name)", "teacher.micro_batch_size=2"]
      let pieces = try await scene.train(
        "wanted-\(name)", ["teacher.placement=replicated", "teacher.micro_batch_size=2"], ranks: ranks)
      #expect(try await scene.train(name, ["teacher.placement=\(name)"], ranks: ranks) == wanted)
      #expect(try await scene.train("\(name)-pieces", values, ranks: ranks) == pieces)
      #expect(try await scene.train("\(name)-file", values + file, ranks: ranks) == pieces)
    }
  }

  /// Weights are sharded over groups of ranks, of which the last may be smaller. A ResNet's running statistics are on
  /// every rank.
  @Test func weightsShardedOverSomeRanks() async throws {
    try await scene.scene.train(
      "resnet",
      [
        "model={embed_dim: 20, vision_cfg: {image_size: 32, layers: [1, 1, 1, 1], width: 8, head_width: 32}, "
          + "text_cfg: {context_length: 8, vocab_size: 0, width: 32, heads: 2, layers: 1}}",
        "steps=2",
      ], ranks: nil)
    for (name, teacher) in [("vit", scene.teacher), ("rn", scene.scene.runFolder("resnet").path)] {
      let values = ["steps=4", "teacher=\"\(teacher)\"", "teacher.micro_batch_size=1"]
      let wanted = try await scene.train("\(name)-wanted", values + ["teacher.placement=replicated"], ranks: 3)
      for over in ["1", "2", "5", "all"] {
        let run = try await scene.run(
          values + ["name=\(name)-\(over)", "teacher.placement=sharded", "teacher.shard_over=\(over)"], ranks: 3)
        #expect(run.status == 0, "\(run)")
        #expect(try scene.scene.losses("\(name)-\(over)") == wanted)
        let ranks = min(Int(over) ?? 3, 3)
        #expect(run.output.contains("sharded: over \(ranks) ranks, each of which keeps 1/\(ranks)"), "\(run)")
        // Each of four steps has a pass for each pair of the rank with most in rank 0's group: the last of the three
        // ranks has three pairs, the others two.
        let passes = ranks == 3 ? 12 : 8
        #expect(run.output.contains("teacher's weights: gathered \(passes) times, waited "), "\(run)")
      }
    }
  }

  /// Ranks embed blocks at their own pace, so precomputing refuses sharded weights.
  @Test func precomputingIsNotSharded() async throws {
    let run = try await CacheScene().run("sharded", ["teacher.placement=sharded"], ranks: 2)
    #expect(run.status == 64 && run.errors.contains("--set teacher.placement=node"), "\(run)")
  }

  /// The measured memory and reads fit the placement. The teacher is large compared with the rest of the process.
  @Test(arguments: [1, 2, 3]) func aNodeHoldsOneTeacher(ranks: Int) async throws {
    let words = try Vocabulary(contentsOf: scene.scene.vocabulary)
    var config = try CLIPConfig(preset: "ViT-64-B-8")
    config.text.vocabularySize = words.size
    let model = CLIP<Float>(config, frozen: true)
    model.initialize(seed: 1)
    try ModelFiles.write(model, preprocessing: ImageOptions(), to: scene.scene.folder.url)
    let whole = Double(model.parameters.count * 4) / 1_048_576
    let stages = CLIP<Float>.stages(config).map { $0.reduce(0) { $0 + $1.count } }.sorted()
    let twoBlocks = Double(stages.suffix(2).reduce(0, +)) / Double(model.parameters.count)
    let sharded = ranks == 1 ? 1 : 1 / Double(ranks) + twoBlocks * (1 - 1 / Double(ranks))
    for (placement, copies) in [("node", 1.0), ("replicated", Double(ranks)), ("sharded", sharded)] {
      let run = try await scene.run(
        [
          "steps=1", "name=\(placement)", "teacher.model=\"\(scene.scene.folder.path(ModelFiles.weights))\"",
          "teacher.placement=\(placement)",
        ], ranks: ranks)
      #expect(run.status == 0, "\(run)")
      let line = try #require(run.output.split(separator: "\n").first { $0.hasPrefix("teacher's weights, ") })
      #expect(line.hasPrefix("teacher's weights, \(placement): "))
      let found = try #require(line.firstMatch(of: #/measured ([0-9.]+) MiB a (?:node|rank)/#))
      let measured = try #require(Double(found.1))
      #expect(abs(measured / (whole * copies) - 1) < 0.15, "\(line), one is \(whole) MiB")
      // The ranks read the file once between them. Sharded weights are read once more, for the checksum.
      let times: Double = placement == "sharded" ? 2 : 1
      let amount = try #require(line.firstMatch(of: #/read ([0-9.]+) MiB a node/#))
      let read = try #require(Double(amount.1))
      #expect(abs(read / (whole * times) - 1) < 0.01, "\(line), one is \(whole) MiB")
      let sum = try SHA256.ofFile(scene.scene.folder.path(ModelFiles.weights))
      #expect(run.output.contains("\(ModelFiles.weights), SHA-256 \(sum)"), "\(run)")
    }
  }

  /// Reading a range of the arena fills this range and nothing else.
  @Test func onlyTheGivenRangesAreRead() throws {
    let config = try ModelFiles.sizes(scene.sizes)
    let whole = CLIP<Float>(config, frozen: true)
    try ModelFiles.read(scene.weights, into: whole)
    let checkpoint = try scene.checkpoint("teacher", 4)
    for ranks in [1, 2, 3, 7] {
      for range in BucketPlan.pieces(of: 0..<whole.parameters.count, ranks: ranks) {
        let (file, parts) = (CLIP<Float>(config, frozen: true), CLIP<Float>(config, frozen: true))
        fill(file.parameters.values, -7)
        fill(parts.parameters.values, -7)
        try ModelFiles.read(scene.weights, into: file, ranges: [range])
        try parts.read(checkpoint, ranges: [range])
        var expected = [Float](repeating: -7, count: whole.parameters.count)
        for entry in whole.parameters.entries {
          for index in entry.range.clamped(to: range) { expected[index] = whole.parameters.values[index] }
        }
        #expect(file.parameters.values.array == expected)
        #expect(parts.parameters.values.array == expected)
      }
    }
  }
}
