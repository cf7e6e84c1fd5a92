import Dist
import Foundation
import Tensor
import TestSupport
import Testing

extension MPITests {
  /// Checkpoints written and read by any number of ranks, and the run's folder after ranks were killed.
  @Suite struct CheckpointTests {
    let folder = try! TemporaryFolder()
    var run: String { folder.path("run") }

    private func write(_ step: Int, ranks: Int = 2, keep: Int? = nil, every: Int? = nil) async throws {
      let arguments = [run, "\(step)"] + [keep, every].compactMap { $0.map { "\($0)" } }
      let job = try await MPIRun.probe("checkpoint-write", arguments, ranks: ranks)
      #expect(job.status == 0, "\(job)")
      let name = "step-\(String(repeating: "0", count: 8 - "\(step)".count))\(step)"
      #expect(job.lines == (0..<ranks).map { "\($0): \(name) []" })
    }

    /// Returns the step from which a run on three ranks would resume, and the folders that it passes over.
    private func newest() async throws -> String {
      let job = try await MPIRun.probe("checkpoint-newest", [run], ranks: 3)
      #expect(job.status == 0, "\(job)")
      #expect(Set(job.lines.map { $0.dropFirst(3) }).count == 1)
      return String(job.lines.first?.dropFirst(3) ?? "")
    }

    private func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: run).sorted() }

    private func marked() throws -> String {
      try FileManager.default.destinationOfSymbolicLink(atPath: run + "/latest")
    }

    @Test(arguments: [1, 2, 3, 5])
    func anyNumberOfRanksReadsWhatAnyOtherWrote(writers: Int) async throws {
      try await write(100, ranks: writers)
      for readers in [1, 2, 3] {
        let job = try await MPIRun.probe("checkpoint-read", [run + "/latest", "100"], ranks: readers)
        #expect(job.status == 0, "\(job)")
        #expect(job.lines == (0..<readers).map { "\($0): equal" })
      }
      let parts = (0..<writers).map { "part-0000\($0)-of-0000\(writers).h5" }
      let files = try FileManager.default.contentsOfDirectory(atPath: run + "/step-00000100").sorted()
      #expect(files == ["manifest.json", "manifest.sha256"] + parts)
    }

    /// A rank that resumes opens the parts that hold what it owns, each once, and all ranks together read each number
    /// once. Of every 20 numbers a rank owns an equal share, as those of four ranks that wrote them.
    @Test(arguments: [(1, [4]), (2, [2, 2]), (4, [1, 1, 1, 1]), (8, [1, 1, 1, 1, 1, 1, 1, 1])])
    func aResumedRankReadsOnlyWhatItOwns(readers: Int, parts: [Int]) async throws {
      try await write(100, ranks: 4)
      let job = try await MPIRun.probe("checkpoint-resume", [run + "/latest", "100"], ranks: readers)
      try #require(job.status == 0, "\(job)")
      let reads = job.lines.compactMap { $0.wholeMatch(of: /\d: (\d+) parts (\d+) bytes/) }
      #expect(reads.map { Int($0.1) } == parts, "\(job)")
      // Values, both moments and the average of 65 scalars.
      let bytes = reads.compactMap { Int($0.2) }.reduce(0, +)
      #expect(bytes == 4 * 4 * 65, "\(job)")
    }

    /// The ranks of a node write one part together, which other numbers of ranks read, and which has the same form.
    @Test(arguments: [(2, 1), (3, 2)]) func ranksOfANodeShareAPart(writers: Int, nodes: Int) async throws {
      let job = try await MPIRun.probe("checkpoint-write-nodes", [run, "100", "\(nodes)"], ranks: writers)
      #expect(job.status == 0, "\(job)")
      for readers in [1, 3] {
        let job = try await MPIRun.probe("checkpoint-read", [run + "/latest", "100"], ranks: readers)
        #expect(job.status == 0 && job.lines == (0..<readers).map { "\($0): equal" }, "\(job)")
      }
      let files = try FileManager.default.contentsOfDirectory(atPath: run + "/step-00000100").sorted()
      #expect(
        files == ["manifest.json", "manifest.sha256"] + (0..<nodes).map { "part-0000\($0)-of-0000\(nodes).h5" })
      #expect(try Checkpoint.open(run + "/latest").manifest.ranks == writers)
      guard nodes == 1 else { return }
      let part = try HDF5File.open(run + "/latest/" + files[2])
      let whole = try part.dataset("/moment1/token_embedding.weight")
      #expect(try part.attributes(of: whole.name).string("ranges") == "0:35")
      #expect(try whole.read(Float.self) == (0..<35).map { 230_100 + Float($0) / 64 })
    }

    /// The data sets of the parts have the names, shapes and attributes that other programs rely on.
    @Test func partsHoldNamedSlices() async throws {
      try await write(7)
      let first = try HDF5File.open(run + "/latest/part-00000-of-00002.h5")
      let second = try HDF5File.open(run + "/latest/part-00001-of-00002.h5")
      #expect(try first.names() == ["moment1", "moment2", "parameters"])
      // Rank 0 owns the first ten scalars of every twenty; the embedding begins at 48.
      let names = ["ln_final.bias", "logit_scale", "token_embedding.weight", "visual.conv1.weight"]
      #expect(try first.names(in: "/moment2") == names.filter { $0 != "logit_scale" })
      #expect(try second.names(in: "/parameters") == names)
      let slice = try second.dataset("/moment1/token_embedding.weight")
      #expect(slice.type == .float32 && slice.shape == [20])
      #expect(try second.attributes(of: slice.name).string("ranges") == "2:12 22:32")
      #expect(try second.attributes(of: slice.name).string("shape") == "[7, 5]")
      let numbers = try slice.read(Float.self)
      #expect(numbers[0] == 230_007.03125 && numbers[10] == 230_007.34375)
    }

    @Test func keepsTheNewestAndRemovesWhatWasNeverFinished() async throws {
      try folder.write("run/step-00000150.partial/part-00000-of-00002.h5", [1])
      try folder.write("run/step-00000900.partial/part-00000-of-00002.h5", [1])
      try folder.write("run/log.txt", [1])
      for step in [100, 200, 300] { try await write(step, keep: 2) }
      let others = ["latest", "log.txt"]
      #expect(try names() == others + ["step-00000200", "step-00000300", "step-00000900.partial"])
      #expect(try marked() == "step-00000300")
      // Back to an earlier step: later ones belong to another branch and stay, but the mark moves.
      try await write(250, keep: 1)
      #expect(try names() == others + ["step-00000250", "step-00000300", "step-00000900.partial"])
      #expect(try await newest() == "250 []")
    }

    @Test func keepsSomeForGood() async throws {
      for step in [100, 150, 200, 250, 300] { try await write(step, keep: 1, every: 100) }
      #expect(try names() == ["latest", "step-00000100", "step-00000200", "step-00000300"])
    }

    @Test func aStepCanBeWrittenAgainByOtherRanks() async throws {
      try await write(100, ranks: 3)
      try await write(100, ranks: 2)
      #expect(try names() == ["latest", "step-00000100"])
      #expect(try await newest() == "100 []")
    }

    /// The saved numbers are those at the time of the call, even if the arena changes during the write.
    @Test(arguments: [1, 2, 3]) func writesWhileTheArenaChanges(ranks: Int) async throws {
      let job = try await MPIRun.probe("checkpoint-background", [run], ranks: ranks)
      #expect(job.status == 0 && job.lines == (0..<ranks).map { "\($0): [1, 2, 3]" }, "\(job)")
      #expect(try marked() == "step-00000003")
    }

    @Test(arguments: [1, 3]) func aWriteThatFailsInTheBackgroundEndsTheJob(ranks: Int) async throws {
      let job = try await MPIRun.probe("checkpoint-background-limited", [run], ranks: ranks)
      #expect(job.status == 74 && job.errors.contains("File too large"), "\(job)")
      let parts = try FileManager.default.contentsOfDirectory(atPath: run + "/step-00000001.partial")
      #expect(!parts.contains("part-0000\(ranks - 1)-of-0000\(ranks).h5"))
    }

    @Test(arguments: [("partWritten", "0", 1), ("partWritten", "1", 2), ("manifestWritten", "0", 3)])
    func aKilledWriterLeavesThePreviousOne(stage: String, victim: String, ranks: Int) async throws {
      try await write(100)
      let job = try await MPIRun.probe("checkpoint-killed", [run, "200", stage, victim], ranks: ranks)
      #expect(job.status == 137, "\(job)")
      #expect(try names() == ["latest", "step-00000100", "step-00000200.partial"])
      #expect(try marked() == "step-00000100")
      #expect(try await newest() == "100 []")
      try await write(200, keep: 1)
      #expect(try names() == ["latest", "step-00000200"])
    }

    @Test(arguments: ["renamed", "published"])
    func aWriterKilledLaterLeavesBoth(stage: String) async throws {
      try await write(100)
      let job = try await MPIRun.probe("checkpoint-killed", [run, "200", stage, "0"], ranks: 2)
      #expect(job.status == 137, "\(job)")
      #expect(try names() == ["latest", "step-00000100", "step-00000200"])
      #expect(try await newest() == (stage == "renamed" ? "100 []" : "200 []"))
    }

    /// After a kill while a step replaces itself, one of the two checkpoints is always there.
    @Test(arguments: ["manifestWritten", "renamed"])
    func aKilledReplacementLosesNothing(stage: String) async throws {
      try await write(100)
      let job = try await MPIRun.probe("checkpoint-killed", [run, "100", stage, "0"], ranks: 2)
      #expect(job.status == 137, "\(job)")
      #expect(try await newest() == "100 []")
      if stage == "renamed" {
        // This is the state after a kill between the two renames.
        try FileManager.default.removeItem(atPath: run + "/step-00000100")
        #expect(try await newest() == "100 []")
      }
      try await write(100, keep: 1)
      #expect(try names() == ["latest", "step-00000100"])
    }

    @Test func aFullFileSystemIsSeenBefore() async throws {
      let job = try await MPIRun.probe("checkpoint-full", [run], ranks: 2)
      #expect(job.status == 74, "\(job)")
      let message = #/checkpoint .*step-00000001: cannot write .*: ([0-9]+) bytes are needed, 1000 are available/#
      let needed = try #require(job.errors.firstMatch(of: message).flatMap { Int($0.1) })
      #expect(try names() == [])
      // The files are no larger than the estimate.
      try await write(1)
      let parts = try FileManager.default.contentsOfDirectory(atPath: run + "/latest").filter { $0.hasSuffix(".h5") }
      let sizes = try parts.map { try Data(contentsOf: URL(filePath: run + "/latest/" + $0)).count }
      #expect(sizes.count == 2 && sizes.reduce(0, +) <= needed)
      #expect(needed < 100_000)
    }

    @Test(arguments: [1, 3])
    func aWriteThatFailsEndsTheJob(ranks: Int) async throws {
      let job = try await MPIRun.probe("checkpoint-limited", [run], ranks: ranks)
      #expect(job.status == 74, "\(job)")
      // An error that all ranks have, as it is with one, names none.
      let who = ranks == 1 ? "kinship: checkpoint " : "kinship: rank \(ranks - 1) of \(ranks) on "
      #expect(job.errors.contains(who), "\(job)")
      #expect(job.errors.contains("part-0000\(ranks - 1)-of-0000\(ranks).h5"))
      #expect(job.errors.contains("File too large"))
      #expect(try names() == ["step-00000001.partial"])
    }

    @Test func aFolderThatCannotBeMadeIsNamed() async throws {
      let file = try folder.write("file", [])
      for path in [file, file + "/run"] {
        let job = try await MPIRun.probe("checkpoint-write", [path, "1"], ranks: 2)
        #expect(job.status == 74, "\(job)")
        #expect(job.errors.contains(": cannot create the folder \(path): "))
      }
    }

    @Test func damagedPartsAreNamedOnEveryNumberOfRanks() async throws {
      try await write(100)
      try await write(200, ranks: 3)
      let bad = run + "/step-00000200"
      try FileManager.default.removeItem(atPath: bad + "/part-00000-of-00003.h5")
      try damage(bad + "/part-00001-of-00003.h5") { $0.removeLast() }
      try damage(bad + "/part-00002-of-00003.h5") { $0[$0.count - 1] ^= 1 }
      for ranks in [1, 2, 3] {
        let job = try await MPIRun.probe("checkpoint-read", [bad, "200"], ranks: ranks)
        #expect(job.status == 65, "\(job)")
        #expect(job.errors.contains("\n  part-00000-of-00003.h5 is missing\n"))
        #expect(job.errors.contains(#/\n  part-00001-of-00003.h5 has [0-9]+ bytes, expected [0-9]+\n/#))
        #expect(job.errors.contains(#/\n  part-00002-of-00003.h5 was altered: its SHA-256 is [0-9a-f]{64}, expected /#))
      }
      #expect(try await newest() == #"100 ["step-00000200"]"#)
    }

    @Test func aRunWithoutCheckpointsHasNoNewest() async throws {
      #expect(try await newest() == "-1 []")
      try folder.write("run/step-00000100/nothing", [])
      #expect(try await newest() == #"-1 ["step-00000100"]"#)
    }

    @Test func parametersThatDoNotFitAreAllListed() async throws {
      try await write(100, ranks: 1)
      let checkpoint = try Checkpoint.open(run + "/latest")
      #expect(checkpoint.folder.hasSuffix("/run/step-00000100"))
      #expect(checkpoint.manifest.record.samples == 3200)
      let entries = [
        NamedSlice(name: "visual.conv1.weight", shape: Shape(3, 2, 4), offset: 0),
        NamedSlice(name: "token_embedding.weight", shape: Shape(7, 5), offset: 24),
        NamedSlice(name: "ln_final.weight", shape: Shape(5), offset: 59),
        NamedSlice(name: "ln_final.bias", shape: Shape(5), offset: 64),
      ]
      let error = #expect(throws: CheckpointError.self) {
        try checkpoint.readValues(entries, into: Tensor(Shape(69)))
      }
      #expect(error?.status == .badData)
      #expect(
        error?.problems == [
          "parameter visual.conv1.weight has the shape [3, 2, 2, 2], the model expects [3, 2, 4]",
          "parameter ln_final.weight [5] is missing", "parameter logit_scale [] is not in the model",
          "parameter none [0, 3] is not in the model",
        ])
    }
  }
}

/// Changes a file's bytes.
func damage(_ path: String, _ change: (inout Data) -> Void) throws {
  var bytes = try Data(contentsOf: URL(filePath: path))
  change(&bytes)
  try bytes.write(to: URL(filePath: path))
}
