import Foundation
import TestSupport
import Testing

/// `scripts/fuzz`, which changes files of every kind that the program reads, and judges what it makes of them.
@Suite struct FuzzTests {
  private func fuzz(_ options: [String], _ program: String? = nil, ranks: Int = 1) async throws -> MPIRun {
    try await MPIRun.execute(
      ["env", TrainScene.scripts + "/fuzz"] + options, ["KINSHIP": program ?? MPIRun.path(of: "kinship")],
      ranks: ranks)
  }

  /// A thousand inputs, or those that fit into 80 seconds, other ones for each commit. Files that pass their checksums
  /// with altered headers are left out: the HDF5 library may crash.
  @Test func changedFilesEndInAMessage() async throws {
    let run = try await fuzz(
      [
        "--inputs", "1000", "--seconds", "80", "--seed", "commit", "--processes", "2", "--without",
        "hdf5-weights-renewed,dataset-renewed,checkpoint-renewed,cache-renewed",
      ], ranks: 2)
    #expect(
      run.status == 0 && run.output.contains(/\n[1-9][0-9]+ inputs with seed \w+ in [0-9]+ s: 0 findings\n/), "\(run)")
    #expect(run.leftBehind.isEmpty)
  }

  /// The program crashes, accepts, hangs or ends with an unknown code where it should refuse a file.
  @Test func findingsAreFound() async throws {
    let folder = try TemporaryFolder()
    let program = try folder.write(
      "kinship",
      """
      #!/bin/bash
      "\(MPIRun.path(of: "kinship"))" "$@" && exit
      case "$1 $2" in
        "vocabulary inspect") kill -SEGV $$ ;;
        "embed --checkpoint") exit 0 ;;
        "weights import") exit 3 ;;
        merge*) mkdir "\(folder.path("hung"))" 2>/dev/null && exec sleep 600 ;;
      esac
      exit 65
      """.utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
    let kinds = ["--kinds", "vocabulary,hdf5-weights,checkpoint,model", "--deadline", "6"]
    // Paths of one length: a merged file holds its checkpoint's, and the seed chooses places by the files' lengths.
    let (output, json) = (folder.path("first"), folder.path("findings.json"))
    let run = try await fuzz(
      kinds + ["--inputs", "32", "--processes", "2", "--output", output, "--json", json], program, ranks: 2)
    #expect(run.status == 1 && run.output.contains("\n32 inputs with seed 1 in "), "\(run)")
    for words in [
      "fuzz: finding: vocabulary: vocabulary inspect was killed by SIGSEGV: ",
      "fuzz: finding: hdf5-weights: embed --checkpoint accepted although merged.h5 does not have the SHA-256 that it"
        + " begins with: ",
      "fuzz: finding: checkpoint: merge runs/model/checkpoints/step-00000002 hangs",
      "fuzz: finding: model: weights import ended with 3: ",
    ] {
      #expect(run.errors.contains(words), "“\(words)” is not in \(run)")
    }
    // A finding's files are kept, beside the commands that read them, and can be made again.
    let number = try #require(run.errors.firstMatch(of: #/accepted although.*; see \S+/finding-([0-9]+); again: /#)).1
    let command = try String(contentsOfFile: "\(output)/finding-\(number)/command", encoding: .utf8)
    #expect(command.contains("\n\(program) embed --checkpoint merged.h5 "), "\(command)")
    let again = try await fuzz(kinds + ["--only", "\(number)", "--output", folder.path("again")], program)
    #expect(again.status == 1 && again.errors.contains("accepted although"), "\(again)")
    struct Summary: Decodable {
      struct Finding: Decodable { let kind, verdict: String, count: Int }
      let inputs: Int
      let findings: [Finding]
    }
    let summary = try JSONDecoder().decode(Summary.self, from: Data(contentsOf: URL(filePath: json)))
    #expect(summary.inputs == 32 && summary.findings.contains { $0.kind == "model" && $0.count > 0 }, "\(summary)")
  }

  /// The decoders of images under libFuzzer. An hour by hand finds more.
  @Test func decodersRunUnderCoverage() async throws {
    let folder = try TemporaryFolder()
    let run = try await fuzz(["--coverage", "images", "--seconds", "2", "--output", folder.path("output")])
    #expect(run.status == 0 && run.output.contains("fuzz: images: no finding in 2 s\n"), "\(run)")
    // It has found inputs that reach other code than the nine sound files.
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path("output/corpus")).count > 9)
  }

  /// The reader of logs that libFuzzer drives, without it: a log with steps, evaluations and what is no line, and none.
  @Test func theReaderOfLogsIsDriven() async throws {
    let folder = try TemporaryFolder()
    let log = try folder.write(
      "log.jsonl",
      """
      {"event":"start","step":0,"ranks":2,"changes":[],"version":"9.9","time":"2026-01-01T00:00:00Z"}
      {"event":"step","step":1,"steps":9,"loss":"nan","terms":{"clip":1e308,"fd":[]},"time":"2026-01-01T00:00:10Z"}
      {"event":"evaluation","step":1,"evaluation":"retrieval","figures":{"i2t R@1":0.5,"t2i R@1":"inf"}}
      {"event":"step","step":1e300,"loss":1}
      no line
      """.utf8)
    let program = try MPIRun.path(of: "FuzzReaders")
    let run = try await MPIRun.execute(["env", program, "log", log, folder.path("none")])
    #expect(run.status == 0, "\(run)")
    let unknown = try await MPIRun.execute(["env", program, "diary", log])
    #expect(unknown.status == 64 && unknown.errors.contains("|log|"), "\(unknown)")
  }

  @Test(arguments: [
    (["--inputs", "0"], "--inputs: expected a number from 1, found '0'"),
    (["--kinds", "tar,zip"], "--kinds: expected some of run-file, doctor, log, "),
    (["--kinds", "tar", "--without", "tar"], "no kind is left"), (["--coverage", "zip"], "--coverage: "),
    (["--output", TrainScene.scripts], "is not empty"), (["--fast"], "--fast"),
  ])
  func wrongArgumentsAreRefused(_ arguments: [String], _ words: String) async throws {
    let run = try await fuzz(arguments)
    #expect(run.status == 64 && run.errors.contains(words), "\(run)")
  }
}
