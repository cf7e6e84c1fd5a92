import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// Runs that leave out patches in training: the same losses on any number of ranks, and the same bits after a resume.
@Suite struct PatchDropoutRunTests {
  let scene: TrainScene

  /// Nine of 16 patches are computed.
  private static let values = ["model.vision_cfg.patch_size=4", "model.vision_cfg.patch_dropout=0.4"]

  init() async throws { scene = try await TrainScene() }

  @Test func ranksDoNotMatter() async throws {
    let run = try await scene.run(["name=one"] + Self.values, ranks: 1)
    try #require(run.status == 0, "\(run)")
    #expect(run.output.contains("patch dropout 0.4: training computes 9 of an image's 16 patches"), "\(run)")
    let one = try scene.losses("one")
    let all = try await scene.train("all", [Self.values[0]], ranks: 1)
    #expect(difference(all, one) > 1e-4)
    let two = try await scene.train("two", Self.values, ranks: 2)
    #expect(difference(two, one) < 1e-5)
    let three = try await scene.train("three", Self.values + ["batch.micro_batch_size=2"], ranks: 3)
    #expect(difference(three, one) < 1e-5)

    let sizes = try Data(contentsOf: scene.runFolder("one").appending(path: "open_clip_config.json"))
    #expect(try CLIPConfig(json: sizes).vision.patchDropout == 0.4)
  }

  /// A run may end with all patches, as FLIP's do.
  @Test func resumesWithTheSameBits() async throws {
    let values = Self.values + ["optimizer.schedule=constant"]
    let straight = try await scene.train("straight", values, ranks: 2)
    try await scene.train("stopped", values + ["steps=4"], ranks: 2)
    let resumed = try await scene.train("stopped", values, ["--resume", "auto"], ranks: 2)
    #expect(resumed == straight)
    let change = "model.vision_cfg.patch_dropout"
    let run = try await scene.run(
      ["name=stopped", "steps=12"] + values + ["\(change)=0"], ["--resume", "auto"], ranks: 2)
    #expect(run.status == 0 && !run.output.contains("patch dropout 0.4"), "\(run)")
    #expect(try scene.log("stopped", "start").last?.changes?.contains("\(change): 0.0, was 0.4") == true)
  }

  @Test func patchesDependOnSeedSampleAndPass() throws {
    func kept(_ values: [String], rows: Range<Int>) throws -> [[Int]] {
      let run = try RunConfig.load(scene.runFile, overrides: Self.values + ["data.views=1"] + values)
      let vocabulary = try Vocabulary(contentsOf: run.vocabulary)
      let config = try run.model.resolved(for: vocabulary, path: run.vocabulary)
      let tokenizer = BytePairTokenizer(vocabulary: vocabulary, context: config.text.contextLength)
      let data = try TrainingData(run, config.vision, tokenizer: tokenizer)
      let loader = data.loader(steps: 0..<6, rows: rows, workers: 2)
      return try (0..<6).map { _ -> [Int] in
        let batch = try #require(try loader.next())
        defer { loader.recycle(batch) }
        return try #require(batch.kept)
      }
    }
    let all = try kept([], rows: 0..<7)
    #expect(all.allSatisfy { $0.count == 7 * 10 })
    #expect(try kept([], rows: 3..<7) == all.map { Array($0[30...]) })
    #expect(try kept(["data.seed=9"], rows: 0..<7) == all)
    #expect(try kept(["seed=4"], rows: 0..<7) != all)
    // In the second epoch the same 23 images, of which there is one crop, have other patches.
    let sets = all.flatMap { tokens in (0..<7).map { Array(tokens[$0 * 10..<($0 + 1) * 10]) } }
    #expect(Set(sets).count > 38)
  }

  @Test func estimates() throws {
    func shape(_ values: [String]) throws -> RunShape {
      let run = try RunConfig.load(scene.runFile, overrides: Self.values + values)
      let config = try run.model.resolved(for: Vocabulary(contentsOf: run.vocabulary), path: run.vocabulary)
      let (student, _) = CLIP<Float>.student(config, run.objective, teacherWidth: nil)
      return RunShape(
        run: run, config: config, parameters: student.parameters, teacher: nil,
        frozen: try run.frozen(in: student.parameters))
    }
    for (values, use) in [([], TowerUse.training), (["freeze=[visual]"], .forward)] as [([String], TowerUse)] {
      let shape = try shape(values)
      let config = shape.config
      let context = Double(config.text.contextLength)
      #expect(StepWork(shape, rows: 7).forward == 7 * config.forwardOperations(tokens: context, use: use))
      let memory = RunEstimate(shape, rank: 0, of: 1, ofNode: 1).memory
      let bytes = config.vision.bufferBytes(images: 7, embedding: config.embedding, threads: 1, use: use)
      #expect(memory.first { $0.name == "images' activations" }?.bytes == bytes)
    }
  }

  @Test func benchmarksOfResNetsDropNoPatches() {
    let work = BenchWork(preset: "RN50", batch: 1, captionTokens: 5, patchDropout: 0.5)
    let error = #expect(throws: UserError.self) { try work.config() }
    #expect(error?.description.contains("--patch-dropout belongs to transformers") == true && error?.status == .usage)
  }
}
