import Foundation
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Tests in small real jobs that the figures of `kinship bench` are consistent, not how fast it is.
@Suite struct BenchTests {
  @Test(arguments: [1, 2]) func objective(ranks: Int) async throws {
    let run = try await MPIRun.kinship(
      ["bench", "objective", "--pairs", "300", "600", "--student", "24", "--teacher", "40"], ranks: ranks)
    let report = try lastLine(run)
    #expect(report["ranks"] as? Int == ranks)
    let batches = try #require(report["batches"] as? [[String: Any]])
    #expect(batches.map { $0["pairs"] as? Int } == [300, 600])
    let operations = batches.compactMap { $0["gflops"] as? Double }
    // Twice as many rows have four times the products of similarities, and twice the products of heads.
    #expect(operations.count == 2 && operations[1] / operations[0] > 3.5 && operations[1] / operations[0] < 4)
    for batch in batches {
      let (all, once) = (try number(batch, "roof_share"), try number(batch, "roof_share_once"))
      #expect(once > 0 && once < all)
      #expect(try number(batch, "peak_mib") >= number(batch, "base_mib"))
    }
  }

  @Test func step() async throws {
    let run = try await MPIRun.kinship(
      ["bench", "step", "--model", "ViT-64-T-16", "--batch", "4", "--steps", "2", "--caption-tokens", "5"], ranks: 2)
    let report = try lastLine(run)
    let shares = try consistentShares(of: report)
    #expect(abs(try number(report, "samples_per_s") * number(report, "step_s") - 8) < 1e-9)
    #expect(report["model"] as? String == "ViT-64-T-16" && report["precision"] as? String == "fp32")
    #expect(report["caption_tokens"] as? Int == 5 && shares["rounding"] == 0 && shares["unfolding"] == 0)
    #expect((report["processor_share"] != nil) == (MultiplyAdds(.fp32) != nil))
    if let share = report["processor_share"] as? Double {
      let rate = try number(report, "step_gflops") / number(report, "step_s")
      let bound = try number(report, "processor_gflops")
      #expect(abs(share * bound - rate) < 1e-9 * rate)
      #expect(abs(try number(report, "roof_share") * number(report, "roof_gflops") - rate) < 1e-9 * rate)
      // A rank has one thread.
      #expect(try number(report, "core_gflops") == bound)
    }
  }

  /// Threads record their products at the same time.
  @Test(.bfloat16Products) func stepOfSeveralThreads() async throws {
    try await stepOfSeveralThreads(isRounded: true)
  }

  @Test func stepOfSeveralThreadsOnAnOlderProcessor() async throws {
    try await stepOfSeveralThreads(isRounded: false, OlderProcessor.environment)
  }

  private func stepOfSeveralThreads(isRounded: Bool, _ environment: [String: String] = [:]) async throws {
    let run = try await MPIRun.kinship(
      [
        "bench", "step", "--model", "ViT-64-T-16", "--batch", "4", "--steps", "2", "--caption-tokens", "5",
        "--precision", "bf16", "--patch-dropout", "0.5",
      ], ranks: nil, environment: environment.merging(["KINSHIP_THREADS": "2"]) { $1 })
    let report = try lastLine(run)
    let shares = try consistentShares(of: report)
    #expect(report["precision"] as? String == (isRounded ? "bf16" : "fp32"))
    #expect((shares["rounding"] ?? 0 > 0) == isRounded, "\(run)")
    #expect(report["patch_dropout"] as? Double == 0.5)
    #expect(run.output.contains("training computes 8 of an image's 16 patches"), "\(run)")
    #expect(try number(report, "roof_share") > 0)
  }

  @Test func stepWithWhatIsComputedAgain() async throws {
    let run = try await MPIRun.kinship(
      [
        "bench", "step", "--model", "ViT-64-T-16", "--batch", "4", "--steps", "1", "--caption-tokens", "5",
        "--recompute", "none", "cheap", "blocks",
      ], ranks: 2)
    let report = try lastLine(run)
    let choices = try #require(report["choices"] as? [[String: Any]])
    #expect(choices.map { $0["recompute"] as? String } == ["none", "cheap", "blocks"])
    let activations = try choices.map { try number($0, "activation_mib") }
    // Of three blocks the last keeps keys and values alone of most rows, whatever the choice.
    #expect(activations[0] > 1.1 * activations[1] && activations[1] > 1.2 * activations[2], "\(activations)")
    // Recomputation does not count as work of the step.
    #expect(try report["recompute"] as? String == "none" && number(report, "activation_mib") == activations[0])
    #expect(try choices.allSatisfy { try number($0, "step_s") > 0 && number($0, "peak_mib") > activations[0] })
    let wrong = try await MPIRun.kinship(["bench", "step", "--recompute", "all"], ranks: nil)
    #expect(wrong.status == 64 && wrong.errors.contains("none, cheap or blocks, not all"), "\(wrong)")
  }

  @Test(arguments: [1, 2]) func teacher(ranks: Int) async throws {
    let run = try await MPIRun.kinship(
      ["bench", "teacher", "--model", "ViT-64-T-16", "--batch", "4", "--passes", "2", "--caption-tokens", "5"],
      ranks: ranks)
    let report = try lastLine(run)
    let placements = try #require(report["placements"] as? [[String: Any]])
    #expect(placements.map { $0["placement"] as? String } == ["node", "sharded", "replicated"])
    for placement in placements {
      let pairs = try number(placement, "pairs_per_s")
      let parts = try ["images_per_s", "captions_per_s"].map { try number(placement, $0) }
      let (share, wait) = (try number(placement, "roof_share"), try number(placement, "wait_share"))
      #expect(pairs > 0 && parts.allSatisfy { $0 >= pairs } && share > 0, "\(placement)")
      #expect(placement["placement"] as? String == "sharded" ? wait > 0 && wait < 1 : wait == 0)
    }
    #expect(run.output.split(separator: "\n").count { $0.hasPrefix("teacher's weights, ") } == 3)
  }

  @Test func ranks() async throws {
    let run = try await MPIRun.kinship(
      [
        "bench", "ranks", "--model", "ViT-64-T-16", "--batch", "4", "--steps", "1", "--rounds", "1", "--caption-tokens",
        "5",
        "--sizes", "2", "1", "3",
      ], ranks: 2)
    let measured = try #require(try lastLine(run)["measured"] as? [[String: Any]])
    #expect(measured.map { $0["ranks"] as? Int } == [1, 1, 2, 2])
    #expect(measured.map { $0["overlap"] as? Bool } == [false, true, false, true])
    let bytes = try measured.map { try number($0, "received_bytes") }
    // Each rank receives half of the gradients, without those of the token embedding, and half of the parameters.
    #expect(bytes[0] == 0 && bytes[1] == 0 && bytes[2] == bytes[3] && bytes[2] > 4e6, "\(bytes)")
    for (index, found) in measured.enumerated() {
      let (step, exposed) = (try number(found, "step_s"), try number(found, "exposed_s"))
      #expect(exposed >= 0 && exposed < step, "\(found)")
      let alone = try number(measured[index % 2], "step_s")
      #expect(abs(try number(found, "efficiency") - alone / step) < 1e-9, "\(found)")
    }
    let none = try await MPIRun.kinship(["bench", "ranks", "--sizes", "3"], ranks: 2)
    #expect(
      none.status == 64 && none.errors.contains("--sizes has no number that is at most the job's 2 ranks"), "\(none)")
  }

  @Test(arguments: ["step", "ranks", "teacher"]) func inputRefused(name: String) async throws {
    for wrong in [["--batch", "0"], ["--caption-tokens", "1"]] {
      let run = try await MPIRun.kinship(["bench", name] + wrong, ranks: 1)
      #expect(run.status == 64 && run.errors.contains("--batch is at least 1, --caption-tokens at least 2"), "\(run)")
    }
    let long = try await MPIRun.kinship(["bench", name, "--model", "ViT-64-T-16", "--caption-tokens", "33"], ranks: 1)
    #expect(long.status != 0 && long.errors.contains("more than the 32 of ViT-64-T-16's context"), "\(long)")
  }

  private func number(_ object: [String: Any], _ key: String) throws -> Double {
    try #require(object[key] as? Double, "\(key)")
  }

  /// Returns the shares of a step, after checking that they make up the whole.
  private func consistentShares(of report: [String: Any]) throws -> [String: Double] {
    let shares = try #require(report["shares"] as? [String: Double])
    // Each of the eleven is rounded to thousandths. What lies between the parts would be negative if they overlapped.
    #expect(shares.count == 11 && abs(shares.values.reduce(0, +) - 1) < 0.006, "\(shares)")
    #expect(try #require(shares["between_parts"]) > -0.001, "\(shares)")
    return shares
  }

  private func lastLine(_ run: MPIRun) throws -> [String: Any] {
    #expect(run.status == 0, "\(run)")
    let line = try #require(run.output.split(separator: "\n").last)
    return try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
  }
}
