import Foundation
import TestSupport
import Testing

/// Runs `scripts/bench` beside PyTorch. Its own measurements are real. A stand-in replaces PyTorch, which
/// no test installs: it records its arguments and prints what the real script prints.
@Suite struct BenchPeerTests {
  let folder: TemporaryFolder
  let script = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts/bench").path
  static let quick = ["--model", "ViT-64-T-16", "--batch", "4", "--steps", "1", "--caption-tokens", "5"]

  init() throws {
    folder = try TemporaryFolder()
    try folder.write(
      "python",
      """
      #!/usr/bin/env bash
      case $1 in
        -c) exit 0 ;;
        *torch_step.py)
          [[ "$*" != *--help* ]] || { [[ "$*" == *ViT-64-T-16* ]]; exit; }
          echo "${*:2}" >> "\(folder.path("asked"))"
          echo '{"torch": "9.9", "threads": 2, "median_s": 0.5, "samples_per_s": 16.0}'
          ;;
        *) exec python3 "$@" ;;
      esac
      """.utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: folder.path("python"))
  }

  private func bench(
    _ arguments: [String], _ environment: [String: String] = [:], ranks: Int = 1
  ) async throws -> MPIRun {
    try await MPIRun.execute(
      ["bash", script] + arguments,
      [
        "KINSHIP": try MPIRun.path(of: "kinship"), "PYTHON": folder.path("python"),
        "MPIRUN_FLAGS": "--oversubscribe",
      ].merging(environment) { $1 }, ranks: ranks)
  }

  private func lastLine(_ run: MPIRun) throws -> [String: Any] {
    try #require(run.status == 0, "\(run)")
    let line = try #require(run.output.split(separator: "\n").last)
    return try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
  }

  private var asked: [String] {
    get throws {
      try String(contentsOfFile: folder.path("asked"), encoding: .utf8).split(separator: "\n").map(String.init)
    }
  }

  /// Returns whether a figure is our rate over the stand-in's 16, except for last digits that JSON readers round.
  private static func isRatio(_ found: Any?, of ours: Double) -> Bool {
    guard let found = found as? Double else { return false }
    return abs(found - ours / 16) <= 1e-14 * ours
  }

  @Test(.bfloat16Products) func bothPrecisions() async throws { try await compare(["fp32", "bf16"]) }

  /// Both steps run in fp32.
  @Test func anOlderProcessor() async throws { try await compare(["fp32"], OlderProcessor.environment) }

  private func compare(_ expected: Set<String>, _ environment: [String: String] = [:]) async throws {
    let report = try lastLine(try await bench(["peer", "--ranks", "2"] + Self.quick, environment, ranks: 2))
    #expect(report["model"] as? String == "ViT-64-T-16" && report["global_batch"] as? Int == 8)
    #expect(report["peer"] as? String == "PyTorch 9.9" && report["caption_tokens"] as? Int == 5)
    let precisions = try #require(report["precisions"] as? [String: [String: Any]])
    #expect(Set(precisions.keys) == expected)
    for found in precisions.values {
      let (ours, theirs) = (found["samples_per_s"] as? Double, found["peer_samples_per_s"] as? Double)
      #expect(theirs == 16 && Self.isRatio(found["samples_over_peer"], of: ours ?? 0), "\(found)")
    }
    let questions = try asked
    #expect(questions.count == 2)
    #expect(
      questions[0]
        == "--student ViT-64-T-16 --teacher cached --precision fp32 --threads 2 --batch 8 --steps 6 --caption-tokens 5")
  }

  @Test func oneStep() async throws {
    let arguments = ["step", "--peer", "--ranks", "1", "--objective", "clip", "--precision", "fp32"] + Self.quick
    let report = try lastLine(try await bench(arguments))
    #expect(report["precision"] as? String == "fp32" && report["model"] as? String == "ViT-64-T-16")
    let ours = report["samples_per_s"] as? Double ?? 0
    #expect(ours > 0 && Self.isRatio(report["samples_over_peer"], of: ours), "\(report)")
    #expect(
      try asked == [
        "--student ViT-64-T-16 --teacher none --precision fp32 --threads 1 --batch 4 --steps 6 --caption-tokens 5"
      ])
  }

  @Test func refusals() async throws {
    let unknown = try await bench(["peer", "--model", "ViT-L-14"])
    #expect(unknown.status == 64 && unknown.errors.contains("PyTorch's step has no model ViT-L-14"), "\(unknown)")
    let other = try await bench(["step", "--peer", "--ranks", "1", "--objective", "tinyclip"] + Self.quick)
    #expect(other.status != 0 && other.errors.contains("take --objective intra"), "\(other)")
    let wrong = try await bench(["exact", "--peer"])
    #expect(wrong.status == 64 && wrong.errors.contains("--peer belongs to"), "\(wrong)")
  }
}
