import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Runs whose gradients travel in bf16 or in two levels, in real jobs on made-up nodes, against one rank.
@Suite struct WireRunTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  /// Buckets of about 500 numbers: most parameters travel alone.
  private static let small = "reduce.bucket=0.002"
  private static let bf16 = [small, "reduce.wire=bf16"]

  /// Trains on nodes with these numbers of ranks; returns the losses and the output.
  private func train(
    _ name: String, _ values: [String], _ options: [String] = [], nodes: [Int]
  ) async throws -> (losses: [Double], output: String) {
    let run = try await scene.run(
      ["name=\(name)"] + values, options, ranks: nodes.reduce(0, +),
      environment: ["KINSHIP_NODES": nodes.map(String.init).joined(separator: ",")])
    try #require(run.status == 0, "\(run)")
    return (try scene.losses(name), run.output)
  }

  /// A gradient that a rank sends is wrong by at most 2⁻⁹ of itself, so a step of AdamW, m/√v, by some 2⁻⁸ of itself.
  /// All ten steps together move the loss by less than itself: the losses differ by less than 2⁻⁸ of them; twice that
  /// allows for numbers whose gradients cancel over the ranks. The first loss precedes any gradient.
  private func expectClose(_ losses: [Double], to exact: [Double]) {
    #expect(difference(losses, exact) < 0x1p-7, "\(losses), \(exact)")
    #expect(abs(losses[0] / exact[0] - 1) < 1e-5 && losses != exact, "\(losses), \(exact)")
  }

  /// Without products in bf16 all parameters arrive as they are, so that ranks agree at every step.
  @Test(arguments: [3]) func roundedGradients(ranks: Int) async throws {
    let alone = try await scene.train("alone", [Self.small], ranks: 1)
    let values = Self.bf16 + ["checkpoint.every=5", "reduce.check_every=1"]
    let straight = try await scene.train("straight", values, ranks: ranks)
    expectClose(straight, to: alone)
    // The same bits without overlap, and from a checkpoint on.
    let apart = try await scene.train("apart", values + ["reduce.overlap=false"], ranks: ranks)
    #expect(apart == straight)
    let from = ["--resume", scene.checkpoint("straight", 5).path]
    let rest = try await scene.train("rest", values, from, ranks: ranks)
    #expect(rest == Array(straight.dropFirst(5)))
    #expect(try scene.parts("rest", 10) == scene.parts("straight", 10))
    // Another form is no reason to refuse, but it is said.
    let other = try await scene.run(["name=other", Self.small], from, ranks: ranks)
    #expect(other.status == 0, "\(other)")
    let words = "ranks exchanged gradients in bf16 and exchange gradients in fp32, in one level"
    #expect(other.output.contains(words), "\(other)")
  }

  /// One rank sends nothing, so it computes the same bits.
  @Test func aSingleRankRoundsNothing() async throws {
    let plain = try await scene.train("plain", ["steps=3"], ranks: 1)
    let rounded = try await scene.train("rounded", Self.bf16 + ["steps=3", "reduce.levels=2"], ranks: 1)
    #expect(rounded == plain)
  }

  /// Parameters of products travel rounded, and yet checkpoints, the exported model and evaluations have the owners'.
  @Test(.bfloat16Products, arguments: [[1, 1], [1, 2]]) func roundedParameters(nodes: [Int]) async throws {
    let evaluation = "evaluate={every: 2, evaluations: [{kind: loss, dataset: \"\(scene.dataset)\"}]}"
    let values =
      Self.bf16 + [
        "precision=bf16", "steps=6", "checkpoint.every=3", "reduce.check_every=1", "reduce.levels=2", evaluation,
        "ema={decay: 0.5}",
      ]
    let (straight, output) = try await train("straight", values, nodes: nodes)
    #expect(output.contains("gradients in bf16, parameters of products in bf16"), "\(output)")
    // All ranks begin again with what the owners had.
    let (rest, _) = try await train("rest", values, ["--resume", scene.checkpoint("straight", 3).path], nodes: nodes)
    #expect(rest == Array(straight.dropFirst(3)))
    #expect(try scene.parts("rest", 6) == scene.parts("straight", 6))
    // Evaluations at other steps gather all parameters unrounded, which must not change what follows.
    let seldom = values.map { value in
      value == "reduce.check_every=1" ? "reduce.check_every=none" : value.replacing("every: 2", with: "every: 5")
    }
    #expect(try await train("seldom", seldom, nodes: nodes).losses == straight)

    let file = scene.folder.path("merged.safetensors")
    let merge = try await MPIRun.kinship(["merge", scene.runFolder("straight").path, "-o", file], ranks: nil)
    try #require(merge.status == 0, "\(merge)")
    let exported = try SafetensorsFile(scene.runFolder("straight").appending(path: ModelFiles.weights))
    let merged = try SafetensorsFile(URL(filePath: file))
    for name in ["visual.transformer.resblocks.1.mlp.c_fc.weight", "token_embedding.weight", "ln_final.weight"] {
      let (one, other) = (
        try exported.tensor(name, as: Float.self).array, try merged.tensor(name, as: Float.self).array
      )
      #expect(one == other, "\(name)")
      #expect(one.contains { $0.bitPattern & 0xFFFF != 0 }, "\(name) was rounded")
    }
  }

  /// Two levels give one rank's losses, except for rounding, on nodes of equal and of unequal size.
  @Test(arguments: [[1, 2], [2, 2]]) func twoLevels(nodes: [Int]) async throws {
    let alone = try await scene.train("alone", [Self.small], ranks: 1)
    let values = [Self.small, "reduce.levels=2", "checkpoint.every=5", "reduce.check_every=1"]
    let (straight, output) = try await train("straight", values, nodes: nodes)
    #expect(output.contains("gradients in fp32, in two levels over \(nodes.count) nodes of"), "\(output)")
    #expect(difference(straight, alone) < 1e-5, "\(straight), \(alone)")
    let (apart, _) = try await train("apart", values + ["reduce.overlap=false"], nodes: nodes)
    #expect(apart == straight)
    let from = ["--resume", scene.checkpoint("straight", 5).path]
    let (rest, _) = try await train("rest", values, from, nodes: nodes)
    #expect(rest == Array(straight.dropFirst(5)))
    #expect(try scene.parts("rest", 10) == scene.parts("straight", 10))
  }

  /// The bytes that the log counts are those of the estimate, for any form and on any nodes.
  @Test(arguments: [([3], "fp32"), ([3], "bf16"), ([1, 2], "fp32"), ([2, 1], "bf16")])
  func bytesAreThoseOfTheEstimate(nodes: [Int], wire: String) async throws {
    let values = ["steps=2", "reduce.wire=\(wire)", "reduce.levels=2", "reduce.bucket=0.01"]
    _ = try await train("run", values, nodes: nodes)
    let run = try RunConfig.load(scene.runFile, overrides: values)
    let config = try run.model.resolved(for: Vocabulary(contentsOf: run.vocabulary), path: run.vocabulary)
    let (student, _) = CLIP<Float>.student(config, run.objective, teacherWidth: nil)
    var shape = RunShape(run: run, config: config, parameters: student.parameters, teacher: nil)
    shape.nodes = NodeMap(
      firstRanks: nodes.indices.flatMap { node in
        Array(repeating: nodes[..<node].reduce(0, +), count: nodes[node])
      })
    let estimate = RunEstimate(shape, rank: 0, of: 3, ofNode: 3)
    #expect(estimate.route.levels == nodes.count && estimate.route.wire.rawValue == wire)
    let bytes = estimate.received.reduce(0) { $0 + $1.bytes }
    // Tokens that a step does not have cost nothing.
    let tokens = estimate.received.first { $0.name == RunEstimate.tokens }?.bytes ?? 0
    let found = try scene.log("run", "step").compactMap(\.receivedBytes)
    #expect(found.count == 2 && found.allSatisfy { (bytes - tokens + 1..<bytes).contains($0) }, "\(found) of \(bytes)")
  }

  @Test func whatIsRefused() async throws {
    for (value, words) in [
      ("reduce.wire=fp16", "reduce.wire: expected fp32 or bf16, found"),
      ("reduce.levels=3", "reduce.levels: expected auto, 1 or 2, found"),
    ] {
      let run = try await scene.run(["name=refused", value], ranks: nil)
      #expect(run.status == 64 && run.errors.contains(words), "\(run)")
    }
    let run = try await scene.run(["name=refused"], ranks: 2, environment: ["KINSHIP_NODES": "1,x"])
    #expect(run.status == 64 && run.errors.contains("KINSHIP_NODES is “1,x”; expected numbers of ranks"), "\(run)")
  }
}

/// The choice of levels by the model of their cost.
@Suite struct ReduceRouteTests {
  /// Twelve buckets of 4 MiB.
  private func route(
    _ config: ReduceConfig, ranks: Int, ofNode size: Int, count: Int = 12, rounded: [Range<Int>] = []
  ) -> BucketRoute {
    let parts = (0..<count).map { BucketPlan.Part($0 << 20..<($0 + 1) << 20) }
    return config.route(
      BucketPlan(parts, ranks: ranks, size: 1 << 20), rounded: rounded, frozen: .none,
      nodes: NodeMap(ranks: ranks, ofNode: size), Float.self)
  }

  @Test func levelsAreChosenByCost() {
    var config = ReduceConfig()
    #expect(config.levels == .auto && config.wire == .fp32)
    // On one node, or with one rank on each, there is nothing to choose.
    #expect(route(config, ranks: 64, ofNode: 64) == BucketRoute() && route(config, ranks: 64, ofNode: 1).nodes == nil)
    #expect(route(config, ranks: 64, ofNode: 1).text == nil)
    // A ring of 1024 ranks has 1023 messages, and two levels have 15 and 63.
    #expect(route(config, ranks: 1024, ofNode: 64).levels == 2)
    config.levels = .one
    #expect(route(config, ranks: 1024, ofNode: 64).levels == 1)
    config.levels = .two
    #expect(route(config, ranks: 4, ofNode: 2).text == "gradients in fp32, in two levels over 2 nodes of 2 ranks")
    #expect(route(config, ranks: 3, ofNode: 2).text == "gradients in fp32, in two levels over 2 nodes of 2, 1 ranks")
    #expect(route(config, ranks: 4, ofNode: 4).levels == 1)
  }

  @Test func roundedNumbersTakeHalfTheBytes() {
    var config = ReduceConfig()
    let extents = [0..<1 << 20, 2 << 20..<3 << 20]
    #expect(route(config, ranks: 2, ofNode: 2, rounded: extents).rounded.isEmpty)
    config.wire = .bf16
    let rounded = route(config, ranks: 2, ofNode: 2, count: 3, rounded: extents)
    #expect(rounded.rounded == extents)
    #expect(rounded.text == "gradients in bf16, parameters of products in bf16")
    #expect(rounded.ofWeights(masked: true).text == "gradients in bf16" && rounded.ofWeights(masked: false) == rounded)
    #expect(rounded.bytes(of: 0..<3 << 20, Float.self) == (2 + 4 + 2) << 20)
    #expect(rounded.bytes(of: (1 << 20) - 8..<(1 << 20) + 8, Float.self) == 8 * 2 + 8 * 4)
  }

  @Test func costOfTwoLevels() {
    let cost = ClusterCost(
      ranks: 8, nodes: 2, network: Link(latency: 1e-4, bandwidth: 1e9), memory: Link(latency: 1e-6, bandwidth: 1e10))
    // One message between the nodes and three within each.
    #expect(abs(cost.twoLevels(8e8, within: 1.6e9) - (1e-4 + 0.4 + 3 * (1e-6 + 0.04))) < 1e-9)
    // Each rank receives 7/8 of the bytes in seven messages, and four ranks share a link.
    #expect(abs(cost.pairwise(8e8) - (7e-4 + 4 * 0.7)) < 1e-9)
    func payload(_ way: RunEstimate.Payload.Way) -> RunEstimate.Payload {
      RunEstimate.Payload(part: "gradients", kind: .reduceScatter, bytes: 800, handed: 800, received: 700, way: way)
    }
    // With halved distances four ranks of a node send half of their bytes, which is slower than a ring only for more.
    #expect(cost.halving(800) < cost.ring(800) && cost.bytesIntoNode(payload(.collective)) == 1600)
    var larger = payload(.collective)
    larger.bytes = 1 << 30
    #expect(cost.halving(0x1p30) > cost.ring(0x1p30) && cost.bytesIntoNode(larger) == 7 << 27)
    #expect(cost.bytesIntoNode(payload(.levels(within: 1600))) == 400)
    #expect(cost.bytesIntoNode(payload(.pairs)) == 1600)
    #expect(cost.seconds(payload(.levels(within: 1600))) == cost.twoLevels(800, within: 1600))
  }
}
