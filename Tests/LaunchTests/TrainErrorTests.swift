import Dist
import Foundation
import TestSupport
import Testing

/// Every mistake ends all ranks soon, if possible before the first step, with an exit code and a reason.
@Suite struct TrainErrorTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  private func expect(
    _ values: [String], _ options: [String] = [], ranks: Int? = 2, status: Int, steps: Int = 0, _ words: String...,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let run = try await scene.run(values, options, ranks: ranks)
    #expect(run.status == status, "\(run)", sourceLocation: sourceLocation)
    for word in words {
      #expect(run.errors.contains(word), "“\(word)” is not in \(run)", sourceLocation: sourceLocation)
    }
    let done = FileManager.default.fileExists(atPath: scene.runFolder("tiny").path) ? try scene.losses("tiny") : []
    #expect(done.count == steps, sourceLocation: sourceLocation)
  }

  @Test func damagedShards() async throws {
    let shard = URL(filePath: scene.dataset).appending(path: "shard-00001.h5")
    let whole = try Data(contentsOf: shard)
    try whole.dropLast(100).write(to: shard)
    try await expect([], status: 65, "shard-00001.h5", "\(whole.count - 100) bytes", "\(whole.count)")
    try await expect(["data.verify=sizes"], status: 65, "shard-00001.h5")
    var altered = whole
    altered[whole.count / 2] ^= 1
    try altered.write(to: shard)
    try await expect([], status: 65, "shard-00001.h5", "SHA-256")
    try FileManager.default.removeItem(at: shard)
    try await expect([], status: 65, "shard-00001.h5")
  }

  /// An image that cannot be decoded ends the run, because the batch would be another one without it.
  @Test func imagesThatCannotBePrepared() async throws {
    let dataset = try Dataset.open(scene.dataset)
    let path = scene.folder.path("spoiled")
    var writer = try DatasetWriter(name: "spoiled", folder: path)
    for sample in 0..<dataset.count {
      let image = try dataset.image(sample)
      try writer.append(
        DatasetSample(
          image: sample == 9 ? Array(image.prefix(image.count / 2)) : image, captions: dataset.captions(sample),
          key: "image \(sample)"))
    }
    _ = try writer.finish()
    for ranks in [1, 2, 3] {
      let run = try await scene.run(["data.datasets=[\"\(path)\"]", "name=on\(ranks)"], ranks: ranks)
      #expect(run.status == 65, "\(run)")
      #expect(run.errors.contains("the image \"image 9\" of the dataset spoiled cannot be prepared"), "\(run)")
      // The image is in the first epoch, which has three steps.
      #expect(try scene.losses("on\(ranks)").count < 4)
    }
    try await expect(["image.max_pixels=100"], status: 65, "the limit is 100 pixels", "image.max_pixels")
  }

  @Test func lossesThatAreNotFinite() async throws {
    let values = ["optimizer.learning_rate=1e30", "optimizer.warmup=0"]
    try await expect(
      values, status: 76, steps: 1, "step 2:", "not finite", "rank 0: ", "; rank 1: ", "optimizer.learning_rate")
  }

  @Test func datasetsThatDoNotDo() async throws {
    try await expect(["batch.global=24"], status: 65, "23 samples", "24", "batch.global")
    try await expect(["data.datasets=[nowhere]"], status: 65, "nowhere")
    let path = scene.folder.path("silent")
    var writer = try DatasetWriter(name: "silent", folder: path)
    try writer.append(
      DatasetSample(image: Dataset.open(scene.dataset).image(0), captions: [], key: "mute"))
    _ = try writer.finish()
    try await expect(["data.datasets=[\"\(path)\"]"], status: 65, "\"mute\" has no caption")
    try await expect(
      ["evaluate.evaluations=[{kind: retrieval, dataset: elsewhere}]"], status: 65, "elsewhere")
    try await expect(
      ["evaluate.evaluations=[{kind: zero-shot, dataset: \"\(path)\"}]"], status: 65, "does not name its classes")
  }

  @Test func vocabulariesAndModelsThatDoNotFit() async throws {
    try await expect(["model.text_cfg.vocab_size=99"], status: 65, "vocab_size is 99", "545 tokens", "or to 0")
    try await expect(["vocabulary=none.txt"], status: 74, "none.txt")
    let junk = try scene.folder.write("junk.txt", "header\nnot a pair of symbols\n".utf8)
    try await expect(["vocabulary=\(junk)"], status: 65, "junk.txt, line 1: expected a header", "found “header”")
    try await expect(["model=lost.json"], status: 74, "cannot open lost.json")
    try await expect(
      ["model.vision_cfg.width=16384", "model.vision_cfg.layers=100"], status: 64, "this run takes about ",
      "of memory a rank (parameters ", "are free for each of the 2 ranks of a node", "lower batch.micro_batch_size")
    try await expect(
      ["model.vision_cfg.image_size=5000", "model.vision_cfg.patch_size=1000"], status: 65, "image.size is 5000")
    let model = try scene.folder.write("sizes.json", #"{"embed_dim": 16, "vision_cfg": {"layers": [1]}}"#.utf8)
    try await expect(["model=\(model)"], status: 65, "model: ")
  }

  @Test func runFilesAndFolders() async throws {
    let text = try String(contentsOf: URL(filePath: scene.runFile), encoding: .utf8)
    try scene.folder.write("run.yaml", text.replacing("log: {every: 1}", with: "log: {evry: 1}").utf8)
    try await expect([], status: 64, "run.yaml:14:7: unknown key \"evry\" in log; did you mean \"every\"?")
    try scene.folder.write("run.yaml", text.utf8)
    try await expect(["image.max_pixels=0"], status: 64, "image.max_pixels: expected 1 to")
    let file = try scene.folder.write("file", "".utf8)
    try await expect(["output=\(file)"], status: 74, "cannot make the run's folder")
  }

  /// Ranks with different options would wait for each other forever.
  @Test(arguments: [["--set", "optimizer.learning_rate=1e-3"], ["--resume", "auto"], ["--dry-run"]])
  func ranksWithOtherOptions(options: [String]) async throws {
    let train = [try MPIRun.path(of: "kinship"), "train", scene.runFile]
    let run = try await MPIRun.execute(MPIRun.ranks([train, train + options]), ranks: 2)
    #expect(run.status == 64, "\(run)")
    #expect(run.errors.contains("kinship: rank 1 on "), "\(run)")
    #expect(run.errors.contains(" was started with a different run file or options than rank 0 on "), "\(run)")
    #expect(run.errors.contains(": start all with the same run file, --set, --resume and other options"), "\(run)")
    #expect(!FileManager.default.fileExists(atPath: scene.folder.path("runs")))
  }

  /// Nodes with their own disks may have different files under the same names.
  @Test func ranksWithOtherFiles() async throws {
    let files = FileManager.default
    let text = try String(contentsOf: URL(filePath: scene.runFile), encoding: .utf8)
      .replacing(scene.folder.url.path(percentEncoded: false), with: "")
    let nodes = ["node0", "node1"].map { scene.folder.url.appending(path: $0, directoryHint: .isDirectory) }
    for node in nodes {
      try files.createDirectory(at: node, withIntermediateDirectories: true)
      for name in ["corpus", "vocabulary.txt.gz"] {
        try files.copyItem(at: scene.folder.url.appending(path: name), to: node.appending(path: name))
      }
      try Data(text.utf8).write(to: node.appending(path: "run.yaml"))
    }
    func expect(_ status: Int, _ words: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
      let train = [try MPIRun.path(of: "kinship"), "train", "run.yaml", "--set", "steps=1"]
      let commands = nodes.map { ["env", "-C", $0.path(percentEncoded: false)] + train }
      let run = try await MPIRun.execute(MPIRun.ranks(commands), ranks: 2)
      #expect(run.status == status, "\(run)", sourceLocation: sourceLocation)
      #expect(run.errors.contains(words), "\(run)", sourceLocation: sourceLocation)
    }
    let learned = try await MPIRun.kinship(
      ["vocabulary", "train", scene.dataset, "--merges", "20", "--output", nodes[1].path + "/vocabulary.txt.gz"],
      ranks: nil)
    try #require(learned.status == 0, "\(learned)")
    try await expect(65, " has a different vocabulary than rank 0")
    try files.removeItem(at: nodes[1].appending(path: "vocabulary.txt.gz"))
    try files.copyItem(atPath: scene.vocabulary, toPath: nodes[1].path + "/vocabulary.txt.gz")

    try files.removeItem(at: nodes[1].appending(path: "corpus"))
    try scene.writeReorderedDataset(to: nodes[1].path + "/corpus")
    try await expect(65, " has a different dataset corpus than rank 0")
  }
}
