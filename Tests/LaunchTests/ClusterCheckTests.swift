import Foundation
import TestSupport
import Testing

@testable import Launch

/// `scripts/cluster-check`, which takes a quarter of an hour, as far as it trains nothing; and its first comparison on
/// three hosts.
@Suite struct ClusterCheckTests {
  private func check(_ arguments: [String]) async throws -> MPIRun {
    try await MPIRun.execute(["env", TrainScene.scripts + "/cluster-check"] + arguments, ["KINSHIP": "/bin/true"])
  }

  @Test func everyCombinationIsChecked() async throws {
    let all = try await check(["--dry-run"])
    #expect(all.status == 0, "\(all)")
    for (part, count) in [
      ("bytes: 8 hosts of 4 ranks, ", 4), ("seconds: ", 8), ("exact: 8 hosts of 4 ranks, then ", 4),
    ] {
      #expect(all.lines.count { $0.hasPrefix(part) } == count, "\(part) in \(all)")
    }
    let some = try await check([
      "--dry-run", "--only", "bytes,seconds", "--levels", "auto", "--wires", "bf16", "--set", "reduce.bucket=1",
    ])
    #expect(
      some.lines == [
        "bytes: 8 hosts of 4 ranks, reduce.levels=auto reduce.wire=bf16",
        "seconds: 2 hosts of 1 rank, 100mbit, reduce.wire=bf16", "seconds: 2 hosts of 1 rank, 1gbit, reduce.wire=bf16",
        "seconds: 4 hosts of 1 rank, 100mbit, reduce.wire=bf16", "seconds: 4 hosts of 1 rank, 1gbit, reduce.wire=bf16",
      ], "\(some)")
    for (arguments, words) in [
      (["--only", "bits"], "expected some of bytes, seconds, exact, found 'bits'"), (["--levels", "3"], "found '3'"),
      (["--wires", "fp16"], "found 'fp16'"), (["--set", "steps=3"], "that the check does not set itself"),
      (["--fast"], "--fast"),
    ] {
      let run = try await check(arguments)
      #expect(run.status == 64 && run.errors.contains(words), "\(arguments): \(run)")
    }
  }

  @Test func itsRunHasEveryTermAndTwentyMegabytes() throws {
    let recipe = TrainScene.scripts + "/recipes/cluster/check.yaml"
    let run = try RunConfig.load(recipe)
    let text = try String(contentsOfFile: recipe, encoding: .utf8)
    // The terms that the preset has are clip, crd and intra.
    for term in ["fd", "icl", "cross_kd", "gd", "afd", "affinity", "rkd", "siglip", "gram"] {
      #expect(text.contains("\n  \(term): "), "\(term)")
    }
    #expect(text.contains("preset: intra\n") && run.batch.global == 64 && run.steps == 50)
  }

  /// What the port of a host has received is what the plan says that a node sends. One rank on each host sends as much
  /// by any algorithm. The difference of two runs leaves out start and end, but for the first two hosts, between which
  /// a run measures the link when it ends.
  @Test(.requires(.hosts)) func hostsSendThePlannedBytes() async throws {
    let scene = try await TrainScene()
    let values = [
      "model={embed_dim: 64, vision_cfg: {image_size: 16, patch_size: 8, width: 256, layers: 2, head_width: 64}, "
        + "text_cfg: {context_length: 8, vocab_size: 0, width: 128, heads: 2, layers: 2}}",
      "batch.global=6", "checkpoint.every=none",
    ]
    let script = """
      count() { sed -n 's/^ *port-3: *\\([0-9]*\\) .*/\\1/p' /proc/net/dev; }
      count
      "$@" >&2 || exit
      count
      """
    func sent(_ steps: Int) async throws -> Int {
      let own = values + ["name=sent\(steps)", "steps=\(steps)"]
      let train = try VirtualCluster.mpirun(["train", scene.runFile] + own.flatMap { ["--set", $0] }, ranks: 3)
      let run = try await VirtualCluster.run(3, [], ["bash", "-c", script, "bash"] + train, ranks: 3)
      try #require(run.status == 0, "\(run)")
      let counts = run.output.split(separator: "\n").compactMap { Int($0) }
      try #require(counts.count == 2, "\(run)")
      return counts[1] - counts[0]
    }
    let (few, many) = (try await sent(2), try await sent(6))
    let planned = try await MPIRun.kinship(
      ["plan", scene.runFile, "--ranks", "3", "--nodes", "3", "--gflops", "10", "--json"]
        + values.flatMap { ["--set", $0] }, ranks: nil)
    try #require(planned.status == 0, "\(planned)")
    let line = try #require(planned.output.split(separator: "\n").last, "\(planned)")
    let plan = try JSONDecoder().decode(RunPlan.self, from: Data(line.utf8))
    let measured = Double(many - few) / 4
    #expect(abs(measured / Double(plan.nodeBytes) - 1) < 0.05, "\(measured) \(plan.nodeBytes) \(plan.collectives)")
  }
}
