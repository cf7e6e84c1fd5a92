import Foundation
import TestSupport
import Testing

@testable import Launch

/// Two ranks that see different files under one path, as on nodes without a shared disk or with a stale copy, refuse to
/// compute with them, and leave nothing.
@Suite struct RankFilesTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  /// Returns the working folder of a rank.
  private func node(_ rank: Int) -> String { scene.folder.path("node\(rank)") }

  /// Gives each rank a copy of its own source under the path `name` in its folder.
  private func give(_ sources: [String], as name: String) throws {
    for (rank, source) in sources.enumerated() {
      try FileManager.default.createDirectory(atPath: node(rank), withIntermediateDirectories: true)
      try? FileManager.default.removeItem(atPath: "\(node(rank))/\(name)")
      try FileManager.default.copyItem(atPath: source, toPath: "\(node(rank))/\(name)")
    }
  }

  /// Runs a command on two ranks, each in its own folder.
  private func run(_ command: [String]) async throws -> MPIRun {
    let program = [try MPIRun.path(of: "kinship")] + command
    return try await MPIRun.execute(MPIRun.ranks((0..<2).map { ["env", "-C", node($0)] + program }), ranks: 2)
  }

  private func expect(
    _ command: [String], differ what: String, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let run = try await run(command)
    #expect(run.status == 65, "\(run)", sourceLocation: sourceLocation)
    let message = try Regex("kinship: rank 1 on \\S+ has a different \(what) than rank 0 on \\S+: ")
    #expect(run.errors.contains(message), "\(run)", sourceLocation: sourceLocation)
    #expect(run.errors.ranges(of: "has a different").count == 1, "\(run)", sourceLocation: sourceLocation)
    #expect(!run.output.contains("R@1") && !run.output.contains("embedding"), "\(run)", sourceLocation: sourceLocation)
  }

  private func train(_ values: [String], _ options: [String] = []) -> [String] {
    ["train", scene.runFile] + values.flatMap { ["--set", $0] } + options
  }

  @Test func checkpointsOfTwoStepsOrSeeds() async throws {
    try await scene.train("one", ["steps=2", "checkpoint.every=1"], ranks: 2)
    try await scene.train("two", ["steps=2", "seed=9"], ranks: 2)
    let output = scene.folder.path("merged.safetensors")
    try give([scene.checkpoint("one", 2).path, scene.checkpoint("one", 1).path], as: "model")
    try await expect(["merge", "model", "-o", output], differ: "checkpoint \\S+/model")
    #expect(!FileManager.default.fileExists(atPath: output))
    try await expect(
      ["evaluate", "retrieval", "--checkpoint", "model", "--dataset", scene.dataset], differ: "checkpoint \\S+/model")

    try give([scene.checkpoint("one", 2).path, scene.checkpoint("two", 2).path], as: "model")
    try await expect(
      ["embed", "--checkpoint", "model", "--text", "a red circle", "-o", "-"], differ: "checkpoint \\S+/model")
    try await expect(train(["name=on"], ["--resume", "model"]), differ: "checkpoint \\S+/model")
    let cache = "teacher.cache=\"\(scene.folder.path("caches"))\""
    let precompute = train(["teacher=model", "objective.preset=standard", "data.views=1", cache]).dropFirst()
    try await expect(["precompute"] + precompute, differ: "checkpoint \\S+/model")
    try FileManager.default.removeItem(atPath: "\(node(1))/model")
    try await expect(train(["name=on"], ["--resume", "model"]), differ: "checkpoint \\S+/model")
    for name in ["runs/on", "caches"] {
      #expect(!FileManager.default.fileExists(atPath: scene.folder.path(name)), "\(name)")
    }

    // A copy of its own is verified by each rank as a whole, and is as good as the same disk.
    try give([scene.checkpoint("one", 2).path, scene.checkpoint("one", 2).path], as: "model")
    let same = try await run(["merge", "model", "-o", output])
    #expect(same.status == 0 && FileManager.default.fileExists(atPath: output), "\(same)")
    let part = URL(filePath: "\(node(1))/model/part-00000-of-00002.h5")
    var bytes = try Data(contentsOf: part)
    bytes[bytes.count / 2] ^= 1
    try bytes.write(to: part)
    let damaged = try await run(["merge", "model", "-o", output + ".h5"])
    #expect(damaged.status == 65, "\(damaged)")
    #expect(damaged.errors.contains(#/: on \S+, part-00000-of-00002.h5 was altered/#), "\(damaged)")
  }

  /// The ranks take the same `latest`, although it may move while they look.
  @Test func latestIsThatOfRankZero() async throws {
    try await scene.train("one", ["steps=2", "checkpoint.every=1"], ranks: nil)
    try give([scene.runFolder("one").path, scene.runFolder("one").path], as: "run")
    let link = "\(node(1))/run/checkpoints/latest"
    try FileManager.default.removeItem(atPath: link)
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "step-00000001")
    let merged = try await run(["merge", "run", "-o", scene.folder.path("latest.safetensors")])
    #expect(merged.status == 0 && merged.output.contains("step 2"), "\(merged)")
  }

  @Test func weightsListsAndDatasets() async throws {
    try await scene.train("one", ["steps=1"], ranks: nil)
    try await scene.train("two", ["steps=1", "seed=9"], ranks: nil)
    let source = ["--checkpoint", ModelFiles.weights, "--vocabulary", scene.vocabulary]
    for name in [ModelFiles.weights, ModelFiles.config] {
      try give(["one", "two"].map { scene.runFolder($0).appending(path: name).path }, as: name)
    }
    try await expect(
      ["evaluate", "retrieval", "--dataset", scene.dataset] + source, differ: "model \(ModelFiles.weights)")
    // Each rank of a node has read a part of the teacher from its own file.
    try await expect(
      train(["name=on", "teacher=\(ModelFiles.weights)", "objective.preset=standard"]), differ: "teacher")
    // What a rank writes to a run's folder must be where the others look for it.
    try await expect(train(["name=on", "output=here"]), differ: "folder here/on")
    #expect(!FileManager.default.fileExists(atPath: "\(node(0))/here/on/run.yaml"))
    try give(
      [scene.runFolder("one").path, scene.runFolder("one").path].map { "\($0)/\(ModelFiles.weights)" },
      as: ModelFiles.weights)

    let lists = try [scene.folder.write("a.txt", "a\nb\nc\n".utf8), scene.folder.write("b.txt", "a\nc\nb\n".utf8)]
    try give(lists, as: "classes.txt")
    try await expect(
      ["evaluate", "zero-shot", "--dataset", scene.dataset, "--classes", "classes.txt"] + source,
      differ: "list of classes")

    let other = scene.folder.path("other")
    try scene.writeReorderedDataset(to: other)
    try give([scene.dataset, other], as: "data")
    try await expect(["embed", "--dataset", "data", "-o", "-"] + source, differ: "dataset corpus")
    try await expect(
      train(["name=on", "evaluate.evaluations=[{kind: retrieval, dataset: data}]"]), differ: "dataset corpus")
    #expect(!FileManager.default.fileExists(atPath: scene.runFolder("on").path))

    // Ranks with copies of their own read all shards of these; a damaged one is named with its host.
    try give([scene.dataset, scene.dataset], as: "data")
    let embed = ["embed", "--dataset", "data", "-o", "-"] + source
    let same = try await run(embed)
    #expect(same.status == 0 && same.output.contains("\"embedding\""), "\(same)")
    let shard = URL(filePath: "\(node(1))/data/shard-00000.h5")
    var bytes = try Data(contentsOf: shard)
    bytes[0] ^= 1
    try bytes.write(to: shard)
    let damaged = try await run(embed)
    #expect(damaged.status == 65, "\(damaged)")
    #expect(damaged.errors.contains(#/kinship: on \S+, data/shard-00000.h5: is altered/#), "\(damaged)")
  }
}
