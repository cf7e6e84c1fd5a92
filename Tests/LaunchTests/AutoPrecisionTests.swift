import Foundation
import Tensor
import TestSupport
import Testing

@testable import Launch

/// `precision: auto` in real runs, on the processor that the tests run on.
@Suite struct AutoPrecisionTests {
  /// The precision that a line of the output names with a reason.
  private func decided(
    _ run: MPIRun, of what: String = "", at location: SourceLocation = #_sourceLocation
  ) throws -> String {
    let begin = "precision \(what)"
    let found = run.output.split(separator: "\n").compactMap { line -> String? in
      guard line.hasPrefix(begin) else { return nil }
      return line.dropFirst(begin.count).prefixMatch(of: /(fp32|bf16) \(auto: .+\)/).map { String($0.1) }
    }
    return try #require(found.first, "\(run)", sourceLocation: location)
  }

  @Test(arguments: [1, 2]) func lossesAreThoseOfThePrecisionThatTheHeaderNames(ranks: Int) async throws {
    let scene = try await TrainScene()
    let run = try await scene.run(["name=auto", "steps=4", "precision=auto"], ranks: ranks)
    try #require(run.status == 0, "\(run)")
    let used = try decided(run)
    #expect(used == PrecisionDecision(.current).used.rawValue, "\(run)")
    let named = try await scene.train("named", ["steps=4", "precision=\(used)"], ranks: ranks)
    #expect(try scene.losses("auto") == named)
    // The log has the same line, and the run's folder the precision itself.
    let facts = try #require(try scene.log("auto", "header").first?.facts)
    #expect(facts.contains { $0.name == "precision" && $0.text.hasPrefix("\(used) (auto: ") }, "\(facts)")
    let file = try String(contentsOf: scene.runFolder("auto").appending(path: RunFolder.runFile), encoding: .utf8)
    #expect(file.contains("\nprecision: \(used)\n"), "\(file)")
    let dry = try await scene.run(["name=dry", "precision=auto"], ["--dry-run"], ranks: ranks)
    #expect(try decided(dry) == used)
  }

  @Test func anOlderProcessorComputesInFP32() async throws {
    let scene = try await TrainScene()
    let run = try await scene.run(
      ["name=older", "steps=2", "precision=auto"], ranks: 2, environment: OlderProcessor.environment)
    #expect(try run.status == 0 && decided(run) == "fp32", "\(run)")
    #expect(!run.output.contains("warning: precision"), "\(run)")
  }

  /// A run that was begun in the precision that `auto` does not take here.
  @Test func aRunKeepsToThePrecisionThatItBeganIn() async throws {
    let scene = try await TrainScene()
    let own = PrecisionDecision(.current).used
    let other = own == .fp32 ? ComputePrecision.bf16 : .fp32
    let begun = try await scene.run(
      ["name=kept", "steps=4", "checkpoint.every=2", "precision=\(other.rawValue)"], ranks: 1)
    try #require(begun.status == 0, "\(begun)")
    let losses = try scene.losses("kept")
    let resumed = try await scene.run(
      ["name=kept", "steps=4", "precision=auto"], ["--resume", scene.checkpoint("kept", 2).path], ranks: 1)
    try #require(resumed.status == 0, "\(resumed)")
    #expect(try scene.losses("kept") == losses)
    let isPossible = other == .fp32 || Processor.current.products != nil
    let words =
      isPossible
      ? "precision \(other.rawValue) (auto: the run was begun in \(other.rawValue) and keeps to it; a new one would "
      : "precision fp32 (auto: the run was begun in bf16, and on host "
    #expect(resumed.output.contains(words), "\(resumed)")
  }

  @Test func aCacheIsMadeAndTakenInOnePrecision() async throws {
    let scene = try await CacheScene()
    let auto = ["teacher.precision=auto"]
    let said = try await scene.precompute("auto", auto, ranks: 2)
    let used = try decided(said, of: "the teacher's ")
    try await scene.precompute("named", ["teacher.precision=\(used)"], ranks: 1)
    #expect(try scene.files("auto") == scene.files("named"))
    // Started again, it finds everything there.
    let again = try await scene.precompute("auto", auto, ranks: 1)
    #expect(again.output.contains("5 of them there already"), "\(again)")
    #expect(try decided(again, of: "the teacher's ") == used)

    let named = try await scene.train("named", from: "auto", ["teacher.precision=\(used)"], ranks: 2)
    let run = try await scene.scene.run(["name=taken"] + scene.settings("auto") + auto, ranks: 2)
    #expect(run.status == 0 && run.output.contains("precision the teacher's as its cache has it\n"), "\(run)")
    #expect(try scene.scene.losses("taken") == named)
    let live = try await scene.teacher.run(["name=live", "data.views=2"] + auto, ranks: 2)
    #expect(try live.status == 0 && decided(live, of: "the teacher's ") == used, "\(live)")
    #expect(difference(try scene.scene.losses("live"), named) < 1e-5)
  }

  @Test func aPlanGoesByTheProcessorsOfTheDoctor() async throws {
    let scene = try await TrainScene()
    func plan(_ processor: Processor?, _ options: [String]) async throws -> MPIRun {
      var doctor: [String] = []
      if let processor {
        let identity = String(decoding: try JSONEncoder().encode(processor), as: UTF8.self)
        let rank = #"{"allCores": 80, "allCoresRounded": 160, "hostname": "n0", "host": {"identity": \#(identity)}}"#
        doctor = ["--doctor", try scene.folder.write("doctor.json", #"{"ranks": [\#(rank)]}"#.utf8)]
      }
      let run = try await MPIRun.kinship(
        ["plan", scene.runFile, "--set", "precision=auto", "--gflops", "80"] + doctor + options, ranks: nil)
      try #require(run.status == 0, "\(run)")
      return run
    }
    let rounded = try await plan(.zen4, ["--json"])
    let found = try JSONDecoder().decode(RunPlan.self, from: Data(rounded.output.utf8))
    let doctor = scene.folder.path("doctor.json")
    #expect(found.precision == "\(PrecisionDecision(.zen4).text), as on the hosts of \(doctor)")
    #expect(found.gflopsBf16 == 160 && !rounded.errors.contains("all ranks compute in fp32"), "\(rounded)")
    let exact = try await plan(.withoutAMX, [])
    let slow = PrecisionDecision(.withoutAMX).text
    #expect(exact.output.contains("\nprecision \(slow), as on the hosts of \(doctor)\n"), "\(exact)")
    let here = try await plan(nil, [])
    let own = PrecisionDecision(.current).text
    #expect(here.output.contains("\nprecision \(own), as on this machine\n"), "\(here)")
  }

  @Test func theDoctorSaysWhatAutoTakesHere() async throws {
    let run = try await MPIRun.kinship(["doctor"], ranks: 2)
    let decision = PrecisionDecision(.current)
    #expect(
      run.output.contains("\n  precision      auto takes \(decision.used.rawValue): \(decision.reason)\n"), "\(run)")
  }
}
