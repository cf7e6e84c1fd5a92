import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// Errors for teachers that cannot be used and for runs that would resume with another one.
@Suite struct TeacherErrorTests {
  let scene: TeacherScene

  init() async throws { scene = try await TeacherScene(ownTeacher: true) }

  private func expect(
    _ values: [String], _ options: [String] = [], ranks: Int? = nil, status: Int, _ words: String...,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let run = try await scene.run(values, options, ranks: ranks)
    #expect(run.status == status, "\(run)", sourceLocation: sourceLocation)
    for word in words {
      #expect((run.errors + run.output).contains(word), "“\(word)” is not in \(run)", sourceLocation: sourceLocation)
    }
  }

  @Test func headerAndDryRun() async throws {
    let sha256 = try SHA256.ofFile(scene.weights)
    let file = [
      "teacher.model=\"\(scene.weights)\"", "teacher.vocabulary=\"\(scene.words)\"", "teacher.micro_batch_size=5",
    ]
    for ranks in [1, 2] {
      try await expect(
        file, ["--dry-run"], ranks: ranks, status: 0, "teacher 0.0", "24 px in patches of 8", "embedding 24",
        "SHA-256 \(sha256)", "5 pairs at a time", "parameters of the objective's own", "teacher")
    }
    // A folder with weights and sizes, as kinship weights import writes it, is a teacher too.
    let imported = scene.scene.folder.url.appending(path: "imported", directoryHint: .isDirectory)
    try FileManager.default.createDirectory(at: imported, withIntermediateDirectories: true)
    for path in [scene.weights, scene.sizes].map({ URL(filePath: $0) }) {
      try FileManager.default.copyItem(at: path, to: imported.appending(path: path.lastPathComponent))
    }
    try await expect(
      file + ["teacher.model=\"\(imported.path)\"", "name=imported", "steps=1"], status: 0,
      "imported/open_clip_model.safetensors", "SHA-256 \(sha256)")
    // If the sizes are known, a dry run needs no weights, so that a recipe can be checked before they are fetched.
    let lost = ["teacher.model=lost.safetensors", "teacher.vocabulary=\"\(scene.words)\""]
    try await expect(
      lost + ["teacher.config=\"\(scene.sizes)\""], ["--dry-run"], status: 0,
      "from lost.safetensors, which is not there", "warning: lost.safetensors is not there")
    try await expect(lost, ["--dry-run"], status: 74, "open_clip_config.json: there is no such file", "teacher.preset")

    try await expect(
      ["objective=clip", "teacher=nowhere", "steps=1"], status: 0,
      "warning: no term of the objective looks at the teacher nowhere: it is not loaded")
  }

  @Test func missingFiles() async throws {
    try await expect(["teacher=lost.safetensors"], status: 74, "lost.safetensors: there is no such file")
    try await expect(["teacher=lost"], ranks: 2, status: 74, "lost: there is no such folder or file")
    let alone = scene.scene.folder.path("alone.safetensors")
    try FileManager.default.copyItem(atPath: scene.weights, toPath: alone)
    try await expect(
      ["teacher=\"\(alone)\""], status: 74, "open_clip_config.json: there is no such file", "teacher.config",
      "teacher.preset")
    try await expect(
      ["teacher.model=\"\(alone)\"", "teacher.config=lost.json"], status: 74, "lost.json: there is no such file")
  }

  @Test func filesThatDoNotFit() async throws {
    let weights = ["teacher.model=\"\(scene.weights)\"", "teacher.vocabulary=\"\(scene.words)\""]
    let sizes = try String(contentsOfFile: scene.sizes, encoding: .utf8)
    let other = try scene.scene.folder.write(
      "other.json", sizes.replacing("\"embed_dim\" : 24", with: "\"embed_dim\" : 20").utf8)
    try await expect(
      weights + ["teacher.config=\"\(other)\""], ranks: 2, status: 65, "does not fit the model:",
      "misshapen: visual.proj is [32, 24], the model's is [32, 20]")
    try await expect(
      weights + ["teacher.preset=ViT-64-T-16"], status: 65,
      "open_clip_config.json says other sizes; leave teacher.preset out")
    let junk = try scene.scene.folder.write("junk.json", "{".utf8)
    try await expect(weights + ["teacher.config=\"\(junk)\""], status: 65, "junk.json: the model config is not JSON")
    let cut = scene.scene.folder.path("cut.safetensors")
    try Data(contentsOf: URL(filePath: scene.weights)).dropLast(100).write(to: URL(filePath: cut))
    try await expect(
      weights + ["teacher.model=\"\(cut)\"", "teacher.config=\"\(scene.sizes)\""], status: 65, "cut.safetensors",
      "truncated")
    try await expect(
      weights + ["teacher.image.std=[1, 1, .inf]"], status: 64, "teacher.image.std")
  }

  @Test func otherVocabularies() async throws {
    // In open_clip's form, vocabularies can only be told apart by their number of tokens.
    try await expect(
      ["teacher.model=\"\(scene.weights)\""], status: 65, "vocabulary.txt.gz: has ", "and the teacher ",
      "in teacher.vocabulary")
    try await expect(
      ["teacher.vocabulary=\"\(scene.scene.vocabulary)\""], status: 65, "is not the vocabulary that the teacher",
      "words.txt.gz, SHA-256")
    // A run records its vocabulary, which must still be there, or be named.
    let moved = scene.scene.folder.path("moved.txt.gz")
    try FileManager.default.moveItem(atPath: scene.words, toPath: moved)
    try await expect([], ranks: 2, status: 65, "words.txt.gz: is not there", "teacher.vocabulary")
    try await expect(["teacher.vocabulary=\"\(moved)\"", "steps=1"], status: 0)
  }

  @Test func anotherTeacherOrObjective() async throws {
    try await scene.train("first", ["steps=2"])
    let resume = ["--resume", scene.scene.checkpoint("first", 2).path]
    try await scene.scene.train("stranger", ["steps=1"], ranks: nil)
    try await expect(
      ["name=second", "steps=3", "teacher=\"\(scene.scene.runFolder("stranger").path)\""], resume, ranks: 2, status: 65,
      "was trained with the teacher \(scene.teacher) (SHA-256", "go on with the teacher that it had")
    // A teacher is identified by its contents and not by its path.
    let elsewhere = scene.scene.folder.path("elsewhere")
    try FileManager.default.copyItem(at: scene.scene.checkpoint("teacher", 4), to: URL(filePath: elsewhere))
    try await expect(["name=third", "steps=3", "teacher=\"\(elsewhere)\""], resume, status: 0, "going on after step 2")

    try await expect(
      ["name=fourth", "steps=3", "objective.icl=0"], resume, ranks: 2, status: 65,
      "was trained with another objective: it has objective.", "go on with the objective and the teacher that it had")
    try await expect(["name=fifth", "steps=3", "objective=clip"], resume, status: 65, "it has objective.")
    try await scene.train("plain", ["objective=clip", "steps=2"])
    let later = ["--resume", scene.scene.checkpoint("plain", 2).path]
    try await expect(["name=sixth", "steps=3"], later, status: 65, "another objective: it lacks objective.")
    // Affinity mimicking has no parameters of its own.
    try await expect(
      ["name=seventh", "steps=3", "objective=tinyclip"], later, status: 0,
      "warning: ", "was trained without a teacher; this run goes on with one", "going on after step 2")
  }

  @Test func ranksWithDifferentTeachers() async throws {
    try await scene.scene.train("stranger", ["steps=1"], ranks: nil)
    let files = FileManager.default
    var commands: [[String]] = []
    for (rank, name) in ["teacher", "stranger"].enumerated() {
      let folder = scene.scene.folder.url.appending(path: "node\(rank)", directoryHint: .isDirectory)
      try files.createDirectory(at: folder, withIntermediateDirectories: true)
      try files.copyItem(at: scene.scene.checkpoint(name, rank == 0 ? 4 : 1), to: folder.appending(path: "model"))
      commands.append(
        ["env", "-C", folder.path, try MPIRun.path(of: "kinship"), "train", scene.scene.runFile]
          + ["--set", TeacherScene.objective, "--set", "teacher=model"])
    }
    let run = try await MPIRun.execute(MPIRun.ranks(commands), ranks: 2)
    #expect(run.status == 65, "\(run)")
    #expect(run.errors.contains(#/rank 1 on \S+ has a different checkpoint \S+/model than rank 0 on /#), "\(run)")
  }
}
