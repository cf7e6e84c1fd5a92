import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// Real jobs with several teachers, each with its cache.
@Suite struct EnsembleTests {
  let scene: CacheScene
  /// A second teacher of another width, with the student's vocabulary.
  let second: String

  init() async throws {
    scene = try await CacheScene()
    try await scene.scene.train("second", ["steps=3", "seed=9", "model.embed_dim=20"], ranks: nil)
    second = scene.scene.runFolder("second").path(percentEncoded: false)
  }

  private func member(_ model: String, _ cache: String) -> String {
    "{model: \"\(model)\", cache: {path: \"\(scene.path(cache))\", part: 5}}"
  }

  private func ensemble(_ members: String...) -> String {
    "teacher.ensemble=[\(members.joined(separator: ", "))]"
  }

  private func files(_ cache: String) throws -> [String: Data] {
    // The manifest contains the teacher's path, which differs.
    try scene.files(cache).filter { $0.key.hasSuffix(".h5") }
  }

  /// One command computes the same caches as a command for each. Two teachers train the same student on any number of
  /// ranks, and another student than either teacher alone.
  @Test func twoTeachers() async throws {
    let both = ensemble(member(second, "b"))
    let said = try await scene.precompute("a", [both], ranks: 2)
    #expect(said.output.split(separator: "\n").count { $0.contains("corpus  complete; ") } == 2, "\(said)")
    try await scene.precompute("alone", ["teacher.model=\"\(second)\""], ranks: 1)
    #expect(try files("b") == files("alone"))

    let wanted = try await scene.train("two-on-1", from: "a", [both], ranks: 1)
    for ranks in [2, 3] {
      let run = try await scene.scene.run(["name=two-on-\(ranks)"] + scene.settings("a") + [both], ranks: ranks)
      #expect(run.status == 0, "\(run)")
      let line = try #require(run.output.split(separator: "\n").first { $0.hasPrefix("ensemble: ") })
      #expect(line.contains("intra, crd follow the mean softmax of 2 teachers: \(scene.teacher.teacher) from "))
      #expect(line.contains("\(second) from \(scene.path("b")) (computed with fp32, kernels "))
      #expect(line.hasSuffix("; fd, icl look at the first alone"))
      #expect(difference(try scene.scene.losses("two-on-\(ranks)"), wanted) < 1e-5)
    }
    let first = try await scene.train("first", from: "a", ranks: 3)
    #expect(difference(wanted, first) > 1e-4)
    // The terms that use embeddings depend on which teacher is the first.
    let swapped = try await scene.train(
      "swapped", from: "b", ["teacher.model=\"\(second)\"", ensemble(member(scene.teacher.teacher, "a"))])
    #expect(swapped.count == 10 && difference(swapped, wanted) > 1e-4)

    // The estimate and the log agree on the bytes that a further teacher adds.
    let run = try RunConfig.load(scene.scene.runFile, overrides: scene.settings("a") + [both])
    let config = try run.model.resolved(for: Vocabulary(contentsOf: run.vocabulary), path: run.vocabulary)
    let teacher = try ModelFiles.sizes(scene.teacher.sizes)
    let (student, _) = CLIP<Float>.student(config, run.objective, teacherWidth: teacher.embedding)
    let bytes = [[20], []].map { ensemble in
      let shape = RunShape(
        run: run, config: config, parameters: student.parameters,
        teacher: RunShape.Teacher(config: teacher, microBatchSize: nil, isCached: true), ensemble: ensemble)
      return RunEstimate(shape, rank: 0, of: 3, ofNode: 3).received.reduce(0) { $0 + $1.bytes }
    }
    let found = try zip(received("two-on-3"), received("first")).map { $0 - $1 }
    #expect(bytes[0] > bytes[1] && found == Array(repeating: bytes[0] - bytes[1], count: 10), "\(found), \(bytes)")
  }

  /// Returns the bytes that rank 0 received in each step, from the run's log.
  private func received(_ name: String) throws -> [Int] {
    let text = try String(contentsOf: scene.scene.runFolder(name).appending(path: RunLog.fileName), encoding: .utf8)
    return try text.split(separator: "\n").compactMap {
      let line = try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
      return line?["received_bytes"] as? Int
    }
  }

  /// A teacher that is named twice, with two caches, trains as one teacher.
  @Test func theSameTeacherTwice() async throws {
    try await scene.precompute("a", [ensemble(member(scene.teacher.teacher, "b"))], ranks: 2)
    #expect(try files("a") == files("b"))
    let single = try await scene.train("single", from: "a")
    let double = try await scene.train("double", from: "a", [ensemble(member(scene.teacher.teacher, "b"))], ranks: 2)
    #expect(difference(double, single) < 1e-5, "\(double), \(single)")
  }

  /// A resumed run keeps the teachers that it was trained with.
  @Test func resume() async throws {
    let both = ensemble(member(second, "b"))
    try await scene.precompute("a", [both], ranks: 2)
    let whole = try await scene.train("whole", from: "a", [both])
    _ = try await scene.train("cut", from: "a", [both, "steps=10", "checkpoint.every=4"])
    try FileManager.default.removeItem(at: scene.scene.checkpoint("cut", 10))
    try FileManager.default.removeItem(atPath: scene.scene.runFolder("cut").path + "/checkpoints/latest")
    let resumed = try await scene.scene.run(
      ["name=cut"] + scene.settings("a") + [both], ["--resume", "auto"], ranks: nil)
    #expect(resumed.status == 0, "\(resumed)")
    #expect(try scene.scene.losses("cut") == whole)
    let other = try await scene.scene.run(
      ["name=cut", "steps=12"] + scene.settings("a"), ["--resume", "auto"], ranks: nil)
    #expect(other.status == 65 && other.errors.contains("with \(second) (SHA-256 "), "\(other)")
  }

  @Test func refusals() async throws {
    func expect(_ values: [String], _ status: Int, _ words: String, at location: SourceLocation = #_sourceLocation)
      async throws
    {
      let run = try await scene.scene.run(scene.settings("a") + values, ranks: 2)
      #expect(run.status == status && run.errors.contains(words), "\(run)", sourceLocation: location)
    }
    try await scene.precompute("a", ranks: 2)
    let both = ensemble(member(second, "b"))
    try await expect(
      [both, "teacher.cache=none"], 64, "teacher.ensemble: the embeddings of several teachers come from")
    try await expect(
      ["teacher.ensemble=[{model: \"\(second)\"}]"], 64, "teacher.ensemble.0.cache: is missing: the folder")
    try await expect([ensemble(member(second, "a"))], 64, "teacher.ensemble.0.cache: \(scene.path("a")) is another")
    try await expect(
      [both, "objective={preset: clip, fd: 1}"], 64, "teacher.ensemble: no term of the objective follows softmaxes")
    try await expect([ensemble("{micro_batch_size: 4}")], 64, "teacher.ensemble.0.model is missing")
    try await expect(
      [ensemble("{model: x, cache: b, ensemble: []}")], 64, "unknown key \"ensemble\" in teacher.ensemble.0")
    try await expect([both], 74, "\(scene.folder("b")): there is no cache.json; run kinship precompute first")
    // The first teacher's cache lies at the path of the second one's.
    try FileManager.default.copyItem(atPath: scene.path("a"), toPath: scene.path("b"))
    try await expect([both], 65, "its teacher is \(scene.teacher.teacher) (SHA-256 ")
  }

  @Test func dryRun() async throws {
    let both = ensemble(member(second, "b"))
    try await scene.precompute("a", [both], ranks: 2)
    let run = try await scene.scene.run(scene.settings("a") + [both], ["--dry-run"], ranks: 2)
    #expect(run.status == 0 && run.output.contains("ensemble: intra, crd follow"), "\(run)")
  }
}
