import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// The estimate of a run, compared with the run.
@Suite struct RunEstimateTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  /// Returns the estimate of rank 0 for a run with these values set.
  private func estimate(_ values: [String], teacher: CLIPConfig? = nil, ranks: Int) throws -> RunEstimate {
    RunEstimate(try shape(values, teacher: teacher), rank: 0, of: ranks, ofNode: ranks)
  }

  private func shape(_ values: [String], teacher: CLIPConfig? = nil) throws -> RunShape {
    let run = try RunConfig.load(scene.runFile, overrides: values)
    let config = try run.model.resolved(for: Vocabulary(contentsOf: run.vocabulary), path: run.vocabulary)
    let (student, _) = CLIP<Float>.student(config, run.objective, teacherWidth: teacher?.embedding)
    return RunShape(
      run: run, config: config, parameters: student.parameters,
      teacher: teacher.map {
        RunShape.Teacher(config: $0, microBatchSize: run.teacher?.microBatchSize, isCached: false)
      },
      frozen: try run.frozen(in: student.parameters))
  }

  /// Returns the bytes that rank 0 received in each step, from the run's log.
  private func received(_ name: String) throws -> [Int] {
    let text = try String(contentsOf: scene.runFolder(name).appending(path: RunLog.fileName), encoding: .utf8)
    return try text.split(separator: "\n").compactMap {
      let line = try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
      return line?["received_bytes"] as? Int
    }
  }

  /// The runs have every term, projections between widths, and rows that the ranks cannot share equally.
  @Test func theEstimatedBytesAreThoseThatTheRanksExchange() async throws {
    try await scene.train("teacher", ["steps=1"], ranks: 1)
    let teacher = try RunConfig.load(scene.runFile).model.resolved()
    var config = teacher
    config.text.vocabularySize = try Vocabulary(contentsOf: scene.vocabulary).size
    let all =
      "objective={preset: intra, icl: 1, cross_kd: 1, gd: 1, afd: 1, affinity: 1, intra_options: {source: clip}}"
    let learning = [all, "teacher=\(scene.runFolder("teacher").path)", "model.embed_dim=12", "steps=2"]
    for (name, values, teacher, ranks) in [
      ("alone", ["steps=2"], nil, 1), ("clip2", ["steps=2"], nil, 2), ("all2", learning, config, 2),
      ("all3", learning, config, 3),
      ("frozen", ["steps=2", "freeze=[visual, transformer.resblocks.0]", "reduce.bucket=0.01"], nil, 3),
    ] {
      try await scene.train(name, values, ranks: ranks)
      let parts = try estimate(values, teacher: teacher, ranks: ranks).received
      let bytes = parts.reduce(0) { $0 + $1.bytes }
      // Tokens that a step does not have cost nothing, and captions do not fill their contexts.
      let tokens = parts.first { $0.name == RunEstimate.tokens }?.bytes ?? 0
      for found in try received(name) {
        #expect(
          ranks == 1 ? found == bytes : (bytes - tokens + 1..<bytes).contains(found), "\(name): \(found), \(parts)")
      }
      #expect(ranks == 1 || bytes > 10_000 && tokens < bytes / 2, "\(name)")
    }
    // Frozen parameters are not sent.
    let table = try estimate(["freeze=[token_embedding]"], ranks: 2)
    #expect(!table.received.contains { $0.name == RunEstimate.tokens } && table.tokenRows.received == 0)
  }

  /// A few rows of the token embedding go from rank to rank, or in two levels from node to node. If ranks touch all of
  /// them, the matrix goes as others do.
  @Test func touchedRowsGoAsTheyAreReduced() throws {
    func tokens(_ values: String..., nodes: NodeMap? = nil) throws -> RunEstimate.Payload {
      var shape = try shape(values)
      shape.nodes = nodes
      let found = RunEstimate(shape, rank: 0, of: 4, ofNode: 4).payloads.filter { $0.part == RunEstimate.tokens }
      return try #require(found.first)
    }
    let (few, many) = ("batch.global=4", "batch.global=4096")
    let (one, all) = (try tokens(few), try tokens(many))
    #expect(one.way == .pairs && one.bytes < all.bytes && one.handed < all.handed)
    #expect(all.way == .collective && all.handed == all.bytes && one.exchanges == 2 && all.exchanges == 1)
    #expect(try tokens(many, "reduce.wire=bf16").way == .pairs)
    let nodes = NodeMap(ranks: 4, ofNode: 2)
    let two = try tokens(few, "reduce.levels=2", nodes: nodes)
    guard case .levels(let within) = two.way else {
      Issue.record("\(two)")
      return
    }
    #expect(within > one.handed && within < all.bytes && two.exchanges == 2 && two.bytes < all.bytes)
    #expect(try tokens(many, "reduce.levels=2", nodes: nodes).way == .levels(within: all.bytes))
    let cost = ClusterCost(ranks: 4, nodes: 1, network: .network, memory: .sharedMemory)
    #expect(cost.seconds(all) == cost.scatterOrGather(Double(all.bytes)))
    // Marks, and then rows: three messages of a rank each, or one between the nodes and one within each.
    let spread = ClusterCost(ranks: 4, nodes: 2, network: .network, memory: .sharedMemory)
    let (alpha, beta) = (3 * Link.network.latency, 2 * Double(one.received) / Link.network.bandwidth)
    #expect(abs(spread.seconds(one) - (2 * alpha + beta)) < 1e-12)
    let latencies = Link.network.latency + Link.sharedMemory.latency
    let bytes = Double(two.bytes) / 2 / Link.network.bandwidth + Double(within) / 2 / Link.sharedMemory.bandwidth
    #expect(abs(spread.seconds(two) - (2 * latencies + bytes)) < 1e-12)
  }

  /// All captions have the same tokens. Without levels each rank sends their rows to the owners, of which half are on
  /// the other node; in two levels each node sends them once.
  @Test func rowsThatANodeSharesTravelOnce() throws {
    func estimate(_ levels: Int) throws -> RunEstimate {
      var shape = try shape(["batch.global=4", "reduce.levels=\(levels)"])
      shape.nodes = NodeMap(ranks: 4, ofNode: 2)
      shape.captions = CaptionSample([[1, 2, 3, 9], [3, 2, 1, 9]])
      return RunEstimate(shape, rank: 0, of: 4, ofNode: 2)
    }
    let (one, two) = (try estimate(1), try estimate(2))
    let (rows, marks) = (4 * one.tokenRows.bytes, one.tokenRows.marks)
    #expect(one.tokenRows.expected == 4 && two.expectedTokens?.bytes == rows + marks)
    // What a node sends otherwise does not depend on the captions.
    let cost = ClusterCost(ranks: 4, nodes: 2, network: .network, memory: .sharedMemory)
    func sent(_ estimate: RunEstimate) -> Int {
      estimate.nodeBytes(cost)
        - estimate.payloads.filter { $0.kind != .exchange }.reduce(0) { $0 + cost.bytesIntoNode($1) }
    }
    #expect(sent(one) == rows + marks && sent(two) == (rows + marks) / 2)
  }

  @Test func memoryByKind() throws {
    func parts(_ values: String..., ranks: Int) throws -> [String: Int] {
      let parts = try estimate(values, ranks: ranks).memory.map { ($0.name, $0.bytes) }
      return Dictionary(uniqueKeysWithValues: parts)
    }
    let one = try parts("batch.global=16", ranks: 1)
    let two = try parts("batch.global=16", ranks: 2)
    let pieces = try parts("batch.global=16", "batch.micro_batch_size=4", ranks: 1)
    let arena = try #require(one["parameters"])
    #expect(arena > 4 * 10_000 && one["gradients"] == arena && one["moments"] == 2 * arena)
    // A rank owns half of each bucket in whole lines of 64 bytes: of three buckets, and of the scale's single line.
    #expect(two["parameters"] == arena && abs((two["moments"] ?? 0) - arena) <= 2 * 4 * 64)
    #expect(abs((two["gradients"] ?? 0) - arena * 3 / 2) <= 4 * 64)
    for name in ["images' activations", "captions' activations (at most)"] {
      let bytes = try #require(one[name])
      let (half, quarter) = (try #require(two[name]), try #require(pieces[name]))
      // The scores of a sequence and head take the same memory for any number of pairs. With micro-batches, one block's
      // buffers serve the forward that keeps nothing.
      #expect(bytes > 0 && half >= bytes / 2 && half < bytes * 11 / 20, "\(name)")
      #expect(quarter > bytes / 4 && quarter < bytes / 2, "\(name)")
    }
    // Three batches of 16 images of 3 × 16 × 16 floats.
    #expect(
      one["prepared batches"] == 3 * 16 * 3 * 16 * 16 * 4 && pieces["prepared batches"] == one["prepared batches"])
    #expect(two["prepared batches"] == 3 * 8 * 3 * 16 * 16 * 4)
  }

  /// A run that prunes holds its weights without masks, and at the cut the model that is left beside the whole one.
  @Test(arguments: [1, 2]) func memoryOfPruning(ranks: Int) throws {
    let batch = "batch.global=16"
    let plain = try estimate([batch], ranks: ranks).memory
    var shape = try shape([batch, "prune={sparsity: 0.4, step: 6, ramp: 0}"])
    let pruned = RunEstimate(shape, rank: 0, of: ranks, ofNode: ranks).memory
    #expect(pruned.filter { plain.contains($0) } == plain && pruned.count == plain.count + 2)
    func bytes(_ name: String) throws -> Int { try #require(pruned.first { $0.name == name }).bytes }
    // In both towers 32 hidden units, two blocks with two heads and 128 units, images of 5 tokens and captions of 8;
    // the longest factors are those of the token embedding's rows and of the patches' 192 columns.
    let (masks, pairs) = (2 * (32 + 2 * 2 + 2 * 128), 16 / ranks)
    let factors = 2 * (shape.config.text.vocabularySize + 192)
    let columns = 3 * 32 * pairs * (5 + 8) + 2 * 4 * 32
    let numbers = 3 * (masks + 2) + 3 * masks
    let weights = try bytes("parameters")
    #expect(try bytes("masks and unmasked weights") == weights + 4 * (factors + columns) + 8 * numbers)
    // Of the blocks' 50,304 parameters two fifths go; sparsity counts the 640 biases of MLPs as gone already.
    let left = weights / 4 - Int((0.4 * 50_304 - 640).rounded())
    // Value, gradient and moments; of two ranks each owns half of the moments, and holds its sums of gradients.
    let each = ranks == 1 ? 16 : 14
    #expect(abs(Double(try bytes("cut model")) / Double(each * left) - 1) < 0.01)
    shape.done = 7
    #expect(RunEstimate(shape, rank: 0, of: ranks, ofNode: ranks).memory == plain)
  }

  /// No file exists except the run file, which declares all sizes.
  @Test func aDryRunNeedsNoFiles() async throws {
    let nowhere = scene.folder.path("nowhere")
    let declared = [
      "data={datasets: [{path: \(nowhere)/a, samples: 1000}, {path: \(nowhere)/b, samples: 50, weight: 2}]}",
      "vocabulary=\(nowhere)/words.txt.gz", "model=ViT-64-T-16", "steps=none", "epochs=3", "batch.global=10",
      "objective=intra", "teacher={model: \(nowhere)/t.safetensors, preset: ViT-B-16}",
      "evaluate={evaluations: [{kind: retrieval, dataset: \(nowhere)/val}]}",
    ]
    let unknown = try await scene.run(declared, ["--dry-run"], ranks: 2)
    #expect(unknown.status == 74, "\(unknown)")
    #expect(unknown.errors.contains("vocab_size is 0, as many as the vocabulary has"), "\(unknown)")

    let run = try await scene.run(declared + ["model=ViT-T-16"], ["--dry-run"], ranks: 2)
    #expect(run.status == 0, "\(run)")
    for words in [
      "46.12 M parameters", "teacher 149.6 M parameters", "t.safetensors, which is not there",
      "a 1000 images, b 50 images × 2.0; 1100 samples an epoch", "steps  330 of 10 pairs (5 a rank), 110 an epoch",
      "3 epochs", "memory about", "teacher 353 MiB", "wire   ", "gradients ", "embeddings 40 KiB",
      "warning: \(nowhere)/words.txt.gz is not there: its 49408 tokens are those of the model",
      "warning: \(nowhere)/a is not there: its number of images is data.datasets.0.samples, 1000",
      "warning: \(nowhere)/t.safetensors is not there: the teacher's sizes are those of ViT-B-16",
      "warning: these are not there, and evaluations need them: \(nowhere)/val",
    ] { #expect(run.output.contains(words), "\(words) in \(run)") }

    let uncounted = try await scene.run(["data.datasets=[\(nowhere)/a]"], ["--dry-run"], ranks: nil)
    #expect(uncounted.status == 74, "\(uncounted)")
    #expect(uncounted.errors.contains("give its number of images in data.datasets.0.samples"), "\(uncounted)")
    // Training needs the files.
    let real = try await scene.run(["data.datasets=[{path: \(nowhere)/a, samples: 1000}]"], ranks: nil)
    #expect(real.status != 0 && real.errors.contains("\(nowhere)/a"), "\(real)")
  }
}

/// `scripts/recipes/paper` has a run for each row of the paper's tables.
@Suite struct PaperRecipeTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts/recipes/paper", directoryHint: .isDirectory)

  /// The student, objective and teacher of each row. The teachers' own rows are not runs.
  static let rows =
    [
      "clip", "tinyclip_vit-l-14", "tinyclip_vit-b-16", "clip-kd_vit-l-14", "clip-kd_vit-b-16", "intra_vit-l-14",
      "intra_vit-b-16", "standard_vit-b-16", "intra-uniform_vit-b-16", "intra-no-grad_vit-b-16",
      "intra-clip-weighted_vit-b-16", "intra-no-image_vit-b-16", "intra-no-text_vit-b-16",
    ].map { "vit-t-16_\($0)" }
    + ["clip", "tinyclip_vit-l-14", "clip-kd_vit-l-14", "intra_vit-l-14"].map { "vit-b-16_\($0)" }
    + ["clip", "clip-kd_vit-b-16", "intra_vit-b-16"].map { "rn50_\($0)" }

  @Test func everyRowIsThere() throws {
    let files = try FileManager.default.contentsOfDirectory(at: Self.folder, includingPropertiesForKeys: nil)
    let names = files.map { $0.deletingPathExtension().lastPathComponent }
    #expect(Set(names) == Set(Self.rows + ["common"]))
  }

  @Test(arguments: rows) func aRowHasThePartsOfItsName(row: String) throws {
    let presets = ["vit-t-16": "ViT-T-16", "vit-b-16": "ViT-B-16", "vit-l-14": "ViT-L-14", "rn50": "RN50"]
    let run = try RunConfig.load(Self.folder.appending(path: "\(row).yaml").path)
    let parts = row.split(separator: "_").map(String.init)
    #expect(run.name == row && run.model.preset == presets[parts[0]])
    #expect(run.objective == ObjectiveOptions(try #require(ObjectivePreset(rawValue: parts[1]))))
    #expect(run.teacher?.preset == (parts.count > 2 ? presets[parts[2]] : nil))
    #expect(run.batch.global == 1024 && run.epochs == 32 && run.steps == nil && run.seed == 0)
    #expect(run.optimizer.learningRate == 1e-3 && run.optimizer.weightDecay == 0.1 && run.optimizer.warmup == 10_000)
    #expect(run.optimizer.schedule == .cosine && run.optimizer.clipNorm == nil && run.optimizer.decay == .legacy)
    #expect(run.optimizer.betas == nil && run.optimizer.eps == nil && run.optimizer.headDecay == 0.01)
    let evaluated = run.evaluate.evaluations.map { String($0.dataset.dropFirst("data/paper/".count)) }
    #expect(evaluated == ["imagenet", "imagenet-v2", "imagenet-r", "imagenet-sketch", "cc3m", "coco", "flickr"])
    #expect(run.image.scale == 0.9...1 && run.data.datasets.map(\.path) == ["data/cc3m", "data/cc12m"])
  }

  @Test func everyRowIsEstimatedOnTwoRanks() async throws {
    for row in Self.rows {
      let file = Self.folder.appending(path: "\(row).yaml").path
      let run = try await MPIRun.kinship(["train", file, "--dry-run"], ranks: 2)
      #expect(run.status == 0, "\(row): \(run)")
      for words in ["run \(row)  2 ranks", " M parameters", "32 epochs", "memory about", "wire   "] {
        #expect(run.output.contains(words), "\(words) in \(run)")
      }
    }
  }
}
