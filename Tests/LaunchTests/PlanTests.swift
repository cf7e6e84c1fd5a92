import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// The cost model, compared with sums by hand.
@Suite struct ClusterCostTests {
  private func cost(_ ranks: Int, nodes: Int) -> ClusterCost {
    ClusterCost(
      ranks: ranks, nodes: nodes, network: Link(latency: 1e-4, bandwidth: 1e9),
      memory: Link(latency: 1e-6, bandwidth: 1e10))
  }

  @Test func aRingSendsOneMessagePerNodeAtATime() {
    // (P − 1)(α + n/P β)
    #expect(abs(cost(8, nodes: 2).ring(8e8) - 7 * (1e-4 + 0.1)) < 1e-9)
    #expect(abs(cost(8, nodes: 1).ring(8e8) - 7 * (1e-6 + 0.01)) < 1e-9)
  }

  @Test func halvingSendsHalfAndHalfAgain() {
    // One rank a node: log₂ P α + (1 − 1/P) n β.
    #expect(abs(cost(8, nodes: 8).halving(8e8) - (3 * 1e-4 + 0.7)) < 1e-9)
    // The four ranks of a node share the network in the only step between nodes, n/2; n/4 and n/8 stay in memory.
    #expect(abs(cost(8, nodes: 2).halving(8e8) - (1e-4 + 4 * 0.4 + 2e-6 + 0.02 + 0.01)) < 1e-9)
  }

  @Test func theFasterAlgorithmCounts() {
    let many = cost(1024, nodes: 1024)
    #expect(many.scatterOrGather(1e3) == many.halving(1e3) && many.halving(1e3) < many.ring(1e3) / 50)
    let few = cost(8, nodes: 2)
    #expect(few.scatterOrGather(8e8) == few.ring(8e8) && few.ring(8e8) < few.halving(8e8))
    let single = cost(1, nodes: 1)
    #expect(single.scatterOrGather(1e9) == 0 && single.smallAllReduce() == 0 && single.allToAll(1e9) == 0)
    // Ten steps to the root of a tree and ten back; one of two nodes sends up, and the other down.
    #expect(abs(many.smallAllReduce() - 20 * 1e-4) < 1e-9)
    #expect(few.nodeBytes(reducing: 800) == 800 && cost(8, nodes: 1).nodeBytes(reducing: 800) == 0)
    #expect(abs(few.allToAll(1e6) - (7e-4 + 4e-3)) < 1e-9)
  }

  @Test func anotherNumberOfRanksHasAsManyPerNode() {
    #expect(cost(64, nodes: 4).with(ranks: 1024).nodes == 64 && cost(64, nodes: 4).with(ranks: 8).nodes == 1)
    #expect(cost(6, nodes: 4).ranksOfNode == 2)
  }

  @Test func captions() {
    let sample = CaptionSample([[1, 2, 9], [1, 3, 3, 9], [1, 9], [1, 2, 9]])
    #expect(sample.mean == 3 && sample.longest == 4)
    #expect(sample.tokens(of: 0) == 0 && sample.tokens(of: 100) >= 300 && sample.tokens(of: 100) <= 330)
    #expect(sample.tokens(of: 1) == 4)
    // All captions contain 1 and 9, half of them 2, a quarter 3.
    #expect(abs(sample.differentTokens(in: 1) - 2.75) < 1e-9)
    #expect(abs(sample.differentTokens(in: 2) - (2 + 0.75 + 1 - 0.5625)) < 1e-9)
  }

  @Test func quantities() {
    #expect(Bandwidth(argument: "1gbit")?.bytes == 1.25e8 && Bandwidth(argument: "1.5GB")?.bytes == 1.5e9)
    #expect(Bandwidth(argument: "100mbit")?.bytes == 1.25e7 && Latency(argument: "20us").map { $0.seconds * 1e6 } == 20)
    #expect(Latency(argument: "0.5ms")?.seconds == 5e-4 && Latency(argument: "2s")?.seconds == 2)
    for text in ["", "gbit", "-1gbit", "0gbit", "1", "1 parsec", "nangbit", "infgbit"] {
      #expect(Bandwidth(argument: text) == nil, "\(text)")
    }
    for text in ["", "us", "-1us", "0ms", "1m"] { #expect(Latency(argument: text) == nil, "\(text)") }
  }
}

/// `kinship plan`, compared with runs.
@Suite struct PlanTests {
  private static let recipe = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts/recipes/paper/vit-t-16_intra_vit-b-16.yaml").path

  private func plan(_ arguments: [String]) async throws -> RunPlan {
    let run = try await MPIRun.kinship(["plan"] + arguments + ["--json"], ranks: nil)
    try #require(run.status == 0, "\(run)")
    let line = try #require(run.output.split(separator: "\n").last, "\(run)")
    return try JSONDecoder().decode(RunPlan.self, from: Data(line.utf8))
  }

  @Test func aRunReportsItsEstimateAndItsMeasurements() async throws {
    let scene = try await TrainScene()
    let sizes = [
      "model={embed_dim: 64, vision_cfg: {image_size: 96, patch_size: 8, width: 192, layers: 6}, "
        + "text_cfg: {context_length: 16, vocab_size: 0, width: 128, heads: 2, layers: 4}}",
      "batch.global=12", "steps=4",
    ]
    for ranks in [1, 2] {
      let run = try await scene.run(["name=on\(ranks)"] + sizes, ranks: ranks)
      try #require(run.status == 0, "\(run)")
      let found = try #require(
        run.output.firstMatch(
          of: /predicted ([0-9.]+) MiB a rank and ([0-9.e-]+) s a step, measured ([0-9.]+) MiB and ([0-9.e-]+) s/),
        "\(run)")
      let (predicted, measured) = (try #require(Double(found.1)), try #require(Double(found.3)))
      #expect(abs(predicted / measured - 1) < 0.1, "\(run)")
      #expect(Double(found.2) ?? 0 > 0 && Double(found.4) ?? 0 > 0, "\(run)")
      // The log has the same figures, and the facts of the header.
      let outcome = try #require(try scene.log("on\(ranks)", "outcome").first)
      #expect(outcome.step == 4 && outcome.memoryMeasured.map { $0 >> 20 } == Int(found.3))
      let facts = try #require(try scene.log("on\(ranks)", "header").first?.facts)
      #expect(facts.first?.name == "ranks" && facts.first?.text.hasPrefix("\(ranks) on ") == true, "\(facts)")
      for fact in facts.dropFirst(3) { #expect(run.output.contains(fact.text), "\(fact)") }
      let plan = try await plan([scene.runFile, "--ranks", "\(ranks)"] + sizes.flatMap { ["--set", $0] })
      #expect(abs(Double(plan.memoryTotal) / 1_048_576 / measured - 1) < 0.1, "\(plan.memory) \(run)")
      // A step sends only those rows of the token embedding that it touches; everything else is exact.
      let tokens = plan.collectives.filter { $0.part == RunEstimate.tokens }.reduce(0) { $0 + $1.received }
      let all = plan.collectives.reduce(0) { $0 + $1.received }
      for line in try scene.log("on\(ranks)", "step") {
        let bytes = try #require(line.receivedBytes)
        #expect(ranks == 1 ? bytes == 0 : (all - tokens..<all).contains(bytes), "\(bytes) of \(plan.collectives)")
      }
    }
  }

  @Test func hostsInTheOrderOfTheirRanks() {
    #expect(RunHeader.hostsText(["b", "a", "b", "a", "a"]) == "b (2), a (3)")
    let many = RunHeader.hostsText((0..<20).map { "node-\($0)" })
    #expect(many.hasPrefix("node-0 (1), node-1 (1)") && many.hasSuffix("node-15 (1) and 4 more hosts"))
  }

  @Test func thousandsOfRanks() async throws {
    let plan = try await plan([
      Self.recipe, "--ranks", "1024", "--nodes", "32", "--bandwidth", "25gbit", "--latency", "5us", "--gflops", "80",
    ])
    #expect(plan.ranks == 1024 && plan.nodes == 32 && plan.gflops == 80)
    #expect(plan.scaling.map(\.ranks) == (0...10).map { 1 << $0 })
    #expect(plan.scaling.map(\.nodes).last == 32 && plan.scaling[5].nodes == 1)
    // One rank has the whole batch. With more ranks efficiency and memory fall, and steps become faster.
    #expect(plan.scaling[0].efficiency == 1 && plan.scaling[0].rows == plan.batch)
    for (some, more) in zip(plan.scaling, plan.scaling.dropFirst()) {
      #expect(more.seconds < some.seconds && more.memory < some.memory && more.efficiency < some.efficiency + 0.01)
    }
    #expect(plan.efficiency < 1 && plan.efficiency == plan.scaling[10].efficiency)
    let parts = plan.collectives.map(\.part)
    #expect(Set(parts) == ["gradients", RunEstimate.tokens, "parameters", "embeddings", "vectors", "numbers"])
    let narrow = try await self.plan([
      Self.recipe, "--ranks", "1024", "--nodes", "32", "--bandwidth", "1gbit", "--latency", "5us", "--gflops", "80",
    ])
    #expect(narrow.seconds.total > plan.seconds.total && narrow.seconds.compute == plan.seconds.compute)
    // A node sends all parameters and all gradients almost once, but for the rows of tokens that are not touched.
    #expect((6 * plan.parameters..<8 * plan.parameters).contains(plan.nodeBytes), "\(plan.nodeBytes)")
    // The run's batch, and as many pairs per rank as in the plan: here they are the same.
    #expect(plan.limits.map(\.ranks) == [1024, 1024] && plan.limits.map(\.batch) == [1024, 1024])
    let (strong, weak) = (plan.limits[0], plan.limits[1])
    #expect(abs(strong.efficiency - plan.efficiency) < 1e-9)
    #expect(abs(weak.efficiency - plan.scaling[10].batchEfficiency) < 1e-9)
    #expect(abs(strong.seconds - plan.seconds.total) < 1e-12)
    #expect(strong.shares.map(\.part) == StepLimits.Part.allCases)
    let computing = [.towers, .objective, .teacher].reduce(0.0) { $0 + share($1, strong) }
    #expect(abs(computing / plan.seconds.compute - 1) < 1e-9 && share(.update, strong) == plan.seconds.update)
    #expect(share(.wireBetweenNodes, narrow.limits[0]) > share(.wireBetweenNodes, strong))
    #expect(narrow.limits[0].costs == .wireBetweenNodes && narrow.limits[0].binds == .wireBetweenNodes)
    let wider = try #require(narrow.limits[0].lifts.first { $0.change == "twice the bandwidth between nodes" })
    #expect(wider.efficiency > 1.2 * narrow.limits[0].efficiency)
    #expect(strong.lifts.count == 8 && strong.lifts.allSatisfy { $0.efficiency > 0 }, "\(strong.lifts)")
  }

  private func share(_ part: StepLimits.Part, _ limits: StepLimits) -> Double {
    limits.shares.first { $0.part == part }?.seconds ?? .nan
  }

  /// Without a copy the run stands still while a checkpoint is written, once in 5000 steps: value and both moments.
  @Test func checkpointsWaitForTheFileSystem() async throws {
    let arguments = [Self.recipe, "--ranks", "1024", "--nodes", "32", "--gflops", "80", "--storage", "1MB"]
    let waiting = try await plan(arguments + ["--set", "checkpoint.background=false"])
    let expected = 12 * Double(waiting.parameters) / 1e6 / 5000
    #expect(abs(share(.checkpoints, waiting.limits[0]) / expected - 1) < 0.01)
    let copied = try await plan(arguments)
    #expect(share(.checkpoints, copied.limits[0]) < 0.01 * expected)
    #expect(share(.evaluation, copied.limits[0]) == 0, "the datasets are not there")
  }

  /// An evaluation of a million images and captions needs a share of their embeddings, which halves with twice as many
  /// ranks, and what does not depend on the ranks.
  @Test func evaluations() async throws {
    func estimate(_ ranks: Int) async throws -> EvaluationEstimate {
      let plan = try await plan([
        Self.recipe, "--ranks", "\(ranks)", "--gflops", "80", "--evaluation-images", "1000000",
      ])
      return try #require(plan.evaluations.last)
    }
    let (few, many) = (try await estimate(64), try await estimate(1024))
    #expect(few.images == 1_000_000 && few.captions == 1_000_000 && few.name == "a retrieval")
    func bytes(_ estimate: EvaluationEstimate, _ part: String) -> Int {
      estimate.memory.first { $0.name == part }?.bytes ?? 0
    }
    // 15,625 blocks of 64 rows, 512 wide: at most 245 and 16 of them on a rank, of images and of captions.
    #expect(bytes(few, "share of the embeddings") == 2 * 245 * 64 * 2048)
    #expect(bytes(many, "share of the embeddings") == 2 * 16 * 64 * 2048)
    #expect(bytes(many, "tile and its scores") == 32_768 * (2048 + 1024))
    for part in ["tile and its scores", "pairs of images and captions"] {
      #expect(bytes(few, part) == bytes(many, part))
    }
    #expect(many.bytes < 320 << 20 && few.bytes > many.bytes)
    for (arguments, words) in [
      (["--evaluation-images", "0"], "--evaluation-images 0: expected 1"),
      (["--evaluation-captions", "5"], "--evaluation-captions belongs to --evaluation-images"),
    ] {
      let run = try await MPIRun.kinship(["plan", Self.recipe] + arguments, ranks: nil)
      #expect(run.status == 64 && run.errors.contains(words), "\(run)")
    }
  }

  /// The towers' products run at the rate of bf16, those of the objective and of a teacher in fp32 at the rate of fp32.
  @Test func precisions() async throws {
    let rates = ["--ranks", "4", "--gflops", "80", "--gflops-bf16", "320"]
    let exact = try await plan([Self.recipe] + rates + ["--set", "precision=fp32"])
    let rounded = try await plan([Self.recipe] + rates + ["--set", "precision=bf16"])
    #expect(exact.gflopsBf16 == nil && rounded.gflopsBf16 == 320 && rounded.gflops == 80)
    let towers = rounded.gflop.forward + rounded.gflop.backward
    let others = rounded.gflop.objective + rounded.gflop.teacher
    let seconds = towers / (320 * StepTime.efficiency(.bf16)) + others / (80 * StepTime.efficiency(.fp32))
    #expect(towers > 0 && others > 0 && abs(rounded.seconds.compute / seconds - 1) < 1e-9)
    #expect(rounded.seconds.compute < exact.seconds.compute)
  }

  @Test func figuresOfTheDoctor() async throws {
    let folder = try TemporaryFolder()
    let doctor = try await MPIRun.kinship(["doctor", "--json"], ranks: 2)
    let file = try folder.write("doctor.json", doctor.output.utf8)
    let run = try await MPIRun.kinship(["plan", Self.recipe, "--ranks", "2", "--doctor", file], ranks: nil)
    #expect(run.status == 0, "\(run)")
    for words in [
      "plan of vit-t-16_intra_vit-b-16  2 ranks on 1 node, 1024 pairs a step", "model  46.12 M parameters", "memory ",
      "images' activations", "GFLOP a rank and step: forward ", "reduce-scatter",
      "tokens a rank touches at most 39424",
      "step   ", "samples/s, efficiency ", " ranks  nodes    rows    memory", "where the time of a step goes",
      "wire between nodes", "twice the bandwidth between nodes",
    ] { #expect(run.output.contains(words), "\(words) in \(run)") }
    for (arguments, status, words) in [
      (["--doctor", try folder.write("other.json", "{}".utf8)], 65, "is not what kinship doctor --json prints"),
      (["--nodes", "2"], 64, "expected at least one rank on each node"),
      (["--ranks", "9223372036854775807"], 64, "65536 in all at most"),
      (["--gflops", "0"], 64, "expected more than 0"), (["--gflops-bf16", "inf"], 64, "expected more than 0"),
      (["--bandwidth", "fast"], 64, "--bandwidth"), (["--latency", "5"], 64, "--latency"),
    ] {
      let run = try await MPIRun.kinship(["plan", Self.recipe] + arguments, ranks: nil)
      #expect(run.status == status && run.errors.contains(words), "\(arguments): \(run)")
    }
  }
}
