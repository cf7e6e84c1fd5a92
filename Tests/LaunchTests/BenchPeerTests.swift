import Foundation
import TestSupport
import Testing

/// Runs `scripts/bench` beside PyTorch. Its own measurements are real. A stand-in replaces PyTorch, which
/// no test installs: it records its arguments and prints what the real script prints.
@Suite struct BenchPeerTests {
  let folder: TemporaryFolder
  let script = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts/bench").path
  /// The stand-in's pairs per second, as an expert runs it and plain.
  static let (expert, plain) = (32.0, 16.0)
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
          rate=\(Self.plain)
          [[ "$*" != *--trim* ]] || rate=\(Self.expert)
          echo '{"name": "PyTorch 9.9", "threads": 2, "allocator": "'${ALLOCATOR:-tcmalloc}'", "pairs_per_s": '$rate'}'
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

  /// Checks that the ratios of a row are those of our rate to the stand-in's, except for last digits that JSON readers
  /// round. Our rate is that of the faster of two rounds.
  private func expectRatios(in row: [String: Any]) throws {
    let ours = try #require(row["pairs_per_s"] as? Double)
    for (name, theirs) in [("over_expert", Self.expert), ("over_plain", Self.plain)] {
      let ratio = try #require(row[name] as? [String: Double])
      let highest = try #require(ratio["highest"])
      #expect(ours > 0 && abs(highest - ours / theirs) <= 1e-14 * ours, "\(row)")
      #expect(try #require(ratio["lowest"]) <= highest)
    }
  }

  @Test(.bfloat16Products) func bothPrecisions() async throws { try await race(["fp32": 1, "bf16": 1]) }

  /// Both steps run in fp32.
  @Test func anOlderProcessor() async throws { try await race(["fp32": 2], OlderProcessor.environment) }

  private func race(_ expected: [String: Int], _ environment: [String: String] = [:]) async throws {
    let report = try lastLine(
      try await bench(["peer", "--ranks", "2", "--rounds", "1"] + Self.quick, environment, ranks: 2))
    #expect(report["model"] as? String == "ViT-64-T-16" && report["global_batch"] as? Int == 8)
    #expect(report["peer"] as? String == "PyTorch 9.9" && report["caption_tokens"] as? Int == 5)
    let rows = try #require(report["results"] as? [[String: Any]])
    let rounds = rows.map { ($0["precision"] as? String ?? "", $0["rounds"] as? Int ?? 0) }
    #expect(Dictionary(uniqueKeysWithValues: rounds) == expected)
    for row in rows { try expectRatios(in: row) }
    let questions = try asked
    #expect(questions.count == 4)
    let plain =
      "--model ViT-64-T-16 --objective intra --precision fp32 --threads 2 --batch 8 --steps 5 --caption-tokens 5"
    #expect(questions.prefix(2) == [plain + " --trim --compile", plain])
  }

  @Test func oneStepInTurn() async throws {
    let arguments = ["step", "--peer", "--ranks", "1", "--rounds", "2", "--objective", "clip"] + Self.quick
    let report = try lastLine(try await bench(arguments))
    let rows = try #require(report["results"] as? [[String: Any]])
    #expect(rows.count == 1 && rows[0]["precision"] as? String == "fp32" && rows[0]["rounds"] as? Int == 2)
    try expectRatios(in: rows[0])
    let plain =
      "--model ViT-64-T-16 --objective clip --precision fp32 --threads 1 --batch 4 --steps 5 --caption-tokens 5"
    #expect(try asked == [plain + " --trim --compile", plain, plain + " --trim --compile", plain])
  }

  @Test func aTeacher() async throws {
    let report = try lastLine(
      try await bench([
        "teacher", "--peer", "--ranks", "1", "--rounds", "1", "--model", "ViT-64-T-16", "--batch", "4", "--passes", "1",
        "--caption-tokens", "5", "--placement", "node", "replicated",
      ]))
    let rows = try #require(report["results"] as? [[String: Any]])
    #expect(rows.map { $0["placement"] as? String } == ["node", "replicated"])
    for row in rows { try expectRatios(in: row) }
    let plain =
      "--model ViT-64-T-16 --forward --precision fp32 --threads 1 --batch 4 --steps 5 --caption-tokens 5"
    #expect(try asked == [plain + " --trim --compile", plain])
  }

  /// A ResNet's expert form is that of the higher median, a ratio is of one round, and our figures are of one round.
  @Test func severalRounds() async throws {
    let rounds: [(ours: Double, eager: Double, compiled: Double)] = [(12, 4, 3), (10, 5, 3.5), (11, 4, 8)]
    for (index, round) in rounds.enumerated() {
      try folder.write(
        "round\(index)",
        """
        what was printed before
        {"model": "RN50", "ranks": 1, "batch": 4, "caption_tokens": 5, "kernel": "Haswell", "precision": "fp32",
         "samples_per_s": \(round.ours), "roof_share": \(round.ours / 20), "processor_share": \(round.ours / 40),
         "peers": {"eager": {"pairs_per_s": \(round.eager)}, "compiled": {"pairs_per_s": \(round.compiled)},
                   "plain": {"name": "PyTorch 9.9", "threads": 1, "pairs_per_s": 2}}}
        """.replacing(",\n", with: ",").utf8)
    }
    let run = try await MPIRun.execute(
      ["python3", script + "-peer", "--join"] + rounds.indices.map { folder.path("round\($0)") })
    let row = try #require((try lastLine(run)["results"] as? [[String: Any]])?.first)
    #expect((row["expert"] as? [String: Any])?["form"] as? String == "eager")
    #expect(row["over_expert"] as? [String: Double] == ["median": 2.75, "lowest": 2, "highest": 3])
    #expect(row["over_plain"] as? [String: Double] == ["median": 5.5, "lowest": 5, "highest": 6])
    #expect(row["pairs_per_s"] as? Double == 11 && row["processor_share"] as? Double == 0.275)
    #expect(run.output.contains("2.75 (2 to 3)") && run.output.contains("55 %") && run.output.contains("27.5 %"))
  }

  @Test func refusals() async throws {
    let unknown = try await bench(["peer", "--model", "ViT-L-14"])
    #expect(unknown.status == 64 && unknown.errors.contains("PyTorch has no model ViT-L-14"), "\(unknown)")
    let other = try await bench(["step", "--peer", "--ranks", "1", "--objective", "tinyclip"] + Self.quick)
    #expect(other.status != 0 && other.errors.contains("take --objective intra"), "\(other)")
    let slow = try await bench(["step", "--peer", "--ranks", "1"] + Self.quick, ["ALLOCATOR": "system"])
    #expect(slow.status != 0 && slow.errors.contains("(trimmed, compiled) ran without tcmalloc"), "\(slow)")
    let wrong = try await bench(["exact", "--peer"])
    #expect(wrong.status == 64 && wrong.errors.contains("--peer belongs to"), "\(wrong)")
    let never = try await bench(["peer", "--rounds", "0"])
    #expect(never.status == 64 && never.errors.contains("--rounds: expected a number from 1, found '0'"), "\(never)")
  }
}
