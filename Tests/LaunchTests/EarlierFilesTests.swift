import Foundation
import TestSupport
import Testing

@testable import Launch

/// Files of an earlier release still open: a run file with the keys of its time, a dataset, a vocabulary, checkpoints
/// and a cache, all made by `Tests/Fixtures/earlier/make`, and what that release computed from them.
@Suite struct EarlierFilesTests {
  private struct Expected: Decodable {
    /// The losses of the steps after the last checkpoint, and the mean ranks of retrieval by checkpoint.
    let losses: [String: Double]
    let meanRanks: [String: Double]
  }

  private let folder: TemporaryFolder
  private let expected: Expected

  init() throws {
    let earlier = Fixture.folder("earlier")
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    expected = try decoder.decode(Expected.self, from: Data(contentsOf: earlier.appending(path: "expected.json")))
    folder = try TemporaryFolder()
    try FileManager.default.copyItem(
      at: earlier.appending(path: "files"), to: URL(filePath: folder.path("files"), directoryHint: .isDirectory))
  }

  private func path(_ name: String) -> String { folder.path("files/\(name)") }

  private func checkpoint(_ step: Int) -> String { path("runs/student/checkpoints/step-0000000\(step)") }

  /// The old keys, with paths that do not depend on the working folder.
  private var settings: [String] {
    [
      "output=\"\(path("runs"))\"", "vocabulary=\"\(path("vocabulary.txt.gz"))\"",
      "data.corpora=[\"\(path("corpus"))\"]", "teacher.model=\"\(path("runs/teacher"))\"",
      "teacher.cache=\"\(path("cache"))\"", "evaluate={evaluations: []}",
    ].flatMap { ["--set", $0] }
  }

  /// The checkpoint resumes, the cache still matches its teacher, and the next losses are those of that release.
  @Test(arguments: [1, 2, 3]) func aRunGoesOn(ranks: Int) async throws {
    let run = try await MPIRun.kinship(
      ["train", path("run.yaml"), "--resume", "latest", "--set", "steps=6"] + settings, ranks: ranks)
    try #require(run.status == 0, "\(run)")
    #expect(run.output.contains("going on after step 4"), "\(run)")
    // That release recorded no arithmetic.
    #expect(run.output.contains(", computed with an unknown arithmetic\n"), "\(run)")
    #expect(!run.output.contains("the arithmetic was"), "\(run)")
    let log = try String(contentsOfFile: path("runs/student/\(RunLog.fileName)"), encoding: .utf8)
    var losses: [String: Double] = [:]
    for line in log.split(separator: "\n") {
      let entry = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      guard entry["event"] as? String == "step", let step = entry["step"] as? Int, step > 4 else { continue }
      losses["\(step)"] = try #require(entry["loss"] as? Double)
    }
    #expect(Set(losses.keys) == Set(expected.losses.keys))
    for (step, loss) in expected.losses {
      let found = losses[step] ?? .nan
      #expect(abs(found - loss) < 1e-5 * loss, "step \(step): \(found), it was \(loss)")
    }
  }

  /// Both checkpoints, and the file that they are merged to, find each caption's image at the same mean rank.
  @Test func checkpointsEvaluateAndMerge() async throws {
    let merged = path("merged.safetensors")
    let merge = try await MPIRun.kinship(
      ["merge", checkpoint(2), checkpoint(4), "--average", "--output", merged], ranks: 2)
    try #require(merge.status == 0, "\(merge)")
    for (name, source) in [("2", checkpoint(2)), ("4", checkpoint(4)), ("merged", merged)] {
      let json = path("\(name).json")
      let run = try await MPIRun.kinship(
        [
          "evaluate", "retrieval", "--checkpoint", source, "--corpus", path("corpus"), "--json", json,
          "--vocabulary", path("vocabulary.txt.gz"),
        ], ranks: 2)
      try #require(run.status == 0, "\(run)")
      let figures = try JSONDecoder().decode(RetrievalFigures.self, from: Data(contentsOf: URL(filePath: json)))
      #expect(figures.textToImage.meanPlace == expected.meanRanks[name], "\(name)")
    }
  }

  @Test func theDatasetIsWhole() async throws {
    let run = try await MPIRun.kinship(["corpus", "verify", path("corpus")], ranks: nil)
    #expect(run.status == 0 && run.output.contains("12 samples"), "\(run)")
  }
}
