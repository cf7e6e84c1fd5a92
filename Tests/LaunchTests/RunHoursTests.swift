import Dist
import Foundation
import Tensor
import TestSupport
import Testing

@testable import Launch

/// The hours of `kinship plan`, and the scripts that use its figures.
@Suite struct RunHoursTests {
  private func plan(_ recipe: String, _ arguments: [String]) async throws -> RunPlan {
    let file = "\(TrainScene.scripts)/recipes/paper/\(recipe).yaml"
    let run = try await MPIRun.kinship(["plan", file, "--gflops", "80", "--json"] + arguments, ranks: nil)
    try #require(run.status == 0, "\(run)")
    let line = try #require(run.output.split(separator: "\n").last, "\(run)")
    return try JSONDecoder().decode(RunPlan.self, from: Data(line.utf8))
  }

  @Test func measuredStepsAreWithinTheirProcessorsLimits() throws {
    for step in MeasuredStep.all {
      // No core of these multiplies faster than 64 multiply-adds a cycle at 4.5 GHz, twice that in bf16.
      let limit = step.precision == .bf16 ? 1.2e12 : 6e11
      let rate = try step.rateOfCore()
      #expect(rate > 4e10 && rate < limit, "\(step): \(rate)")
    }
    // 2.97 GFLOP in the forward of a pair with 16 tokens, by hand: three of them, 17.5 pairs/s, two cores.
    let known = try #require(MeasuredStep.all.first { $0.pairsPerSecond == 17.5 })
    #expect(abs(try known.rateOfCore() / 78e9 - 1) < 0.005)
  }

  @Test func hoursOfAWholeRun() async throws {
    let one = try await plan("vit-t-16_intra_vit-b-16", ["--ranks", "1", "--cores", "64"])
    let hours = try #require(one.hours)
    #expect(hours.steps > 400_000 && hours.nodes == 1 && hours.cores == 64 && hours.rows.count == 7)
    for row in hours.rows {
      #expect(row.nodeHours == row.hours && abs(row.hours * 3600 / (row.stepSeconds * Double(hours.steps)) - 1) < 1e-9)
      // The student's and the teacher's work on 64 cores, the teacher's at the rate of fp32.
      let exact = try #require(hours.rows.first { $0.processor == row.processor && $0.precision == .fp32 })
      let student = one.gflop.forward + one.gflop.backward
      let seconds = (student / row.gflopsOfCore + one.gflop.teacher / exact.gflopsOfCore) / 64
      #expect(seconds > 0 && row.stepSeconds > seconds && row.stepSeconds < 1.05 * seconds, "\(row), \(seconds)")
    }
    let wide = try await plan("vit-t-16_intra_vit-b-16", ["--ranks", "1", "--cores", "128", "--set", "precision=fp32"])
    let rows = try #require(wide.hours?.rows)
    #expect(rows.count == 4 && rows.allSatisfy { $0.precision == .fp32 })
    #expect(rows[0].hours > 0.5 * hours.rows[0].hours && rows[0].hours < 0.55 * hours.rows[0].hours)
  }

  @Test func nodesAndOtherModels() async throws {
    let options = ["--ranks", "64", "--nodes", "2", "--bandwidth", "25gbit", "--latency", "5us"]
    let resNet = try #require(try await plan("rn50_intra_vit-b-16", options).hours)
    #expect(resNet.cores == 32 && resNet.nodes == 2 && resNet.rows.count == 7)
    for row in resNet.rows { #expect(row.nodeHours == 2 * row.hours) }
    let file = "\(TrainScene.scripts)/recipes/paper/rn50_intra_vit-b-16.yaml"
    let text = try await MPIRun.kinship(["plan", file, "--gflops", "80"] + options, ranks: nil)
    let steps = "hours of the run's \(resNet.steps) steps on 2 nodes with 32 cores each, by the measured steps of two"
    #expect(text.output.contains("\n\n\(steps) cores:\n  processor "), "\(text)")
    #expect(text.output.contains(/Zen 5\) +bf16 +[0-9]/), "\(text)")
    let refused = try await MPIRun.kinship(["plan", file, "--cores", "0"], ranks: nil)
    #expect(refused.status == 64 && refused.errors.contains("--cores 0: expected 1 to 65536"), "\(refused)")
  }

  /// `scripts/check-plan` on a run that has ended, and on what is none.
  @Test func thePlanIsComparedWithARun() async throws {
    let scene = try await TrainScene()
    try await scene.train("ended", ranks: 1)
    func check(_ run: String, _ options: [String] = []) async throws -> MPIRun {
      try await MPIRun.execute(
        ["python3", "-B", "\(TrainScene.scripts)/check-plan", run] + options,
        ["KINSHIP": try MPIRun.path(of: "kinship")])
    }
    let figures = scene.folder.path("figures.json")
    let run = try await check(scene.runFolder("ended").path, ["--json", figures])
    try #require(run.status == 0, "\(run)")
    struct Figure: Decodable { var predicted, measured: Double }
    let found = try JSONDecoder().decode([String: Figure].self, from: Data(contentsOf: URL(filePath: figures)))
    for name in ["seconds of a step", "MiB of memory of a rank", "MiB into a rank in a step", "hours of 9 steps"] {
      #expect(found[name] != nil && run.output.contains("\n\(name)"), "\(name) in \(run)")
    }
    let memory = try #require(found["MiB of memory of a rank"])
    #expect(abs(memory.predicted / memory.measured - 1) < 0.15, "\(run)")
    #expect(found["MiB into a rank in a step"]?.measured == 0)
    let nothing = try await check(scene.folder.path("nowhere"))
    #expect(nothing.status == 74 && nothing.errors.contains("name the folder of a run"), "\(nothing)")
    try scene.folder.write("short/log.jsonl", #"{"event":"start","ranks":1,"step":0}"#.utf8)
    try FileManager.default.copyItem(atPath: scene.runFile, toPath: scene.folder.path("short/run.yaml"))
    let short = try await check(scene.folder.path("short"))
    #expect(short.status == 65 && short.errors.contains("fewer than two lines of steps"), "\(short)")
  }

  /// `scripts/paper-hours` with a program that says the same of every recipe, and notes what it is asked.
  @Test func theTableOfThePaper() async throws {
    let folder = try TemporaryFolder()
    let rows = ["fp32", "bf16"].map { #"{"processor": "P", "precision": "\#($0)", "nodeHours": 1234.4}"# }
    let json = """
      {"gflop": {"forward": 1e4, "backward": 2e4, "objective": 30, "teacher": 4e4}, \
      "hours": {"rows": [\(rows.joined(separator: ", "))]}}
      """
    let script = "#!/bin/sh\necho \"$@\" >>'\(folder.path("asked"))'\necho a warning\necho '\(json)'\n"
    let program = try folder.write("kinship", script.utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
    let run = try await MPIRun.execute(
      ["python3", "-B", "\(TrainScene.scripts)/paper-hours", "--cores", "32"], ["KINSHIP": program])
    let lines = run.output.split(separator: "\n")
    #expect(run.status == 0 && lines.count == 8 && lines[0] == "| student | teacher | TFLOP a step | P |", "\(run)")
    #expect(lines.last == "| ViT-B/16 | ViT-L/14 | 70 | 1,234, 1,234 |", "\(run)")
    let asked = try String(contentsOfFile: folder.path("asked"), encoding: .utf8).split(separator: "\n")
    #expect(asked.count == 6 && Set(asked).count == 6, "\(asked)")
    for command in asked {
      let words = command.split(separator: " ").map(String.init)
      #expect(words[0] == "plan" && FileManager.default.fileExists(atPath: words[1]), "\(command)")
      #expect(
        command.contains(" --ranks 1 --cores 32 ") && command.contains(" --set teacher.preset=ViT-"), "\(command)")
    }
  }
}
