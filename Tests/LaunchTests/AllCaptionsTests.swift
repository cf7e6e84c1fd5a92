import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// Runs in which every caption of an image has a loss of its own. The images of the scene have two captions.
@Suite struct AllCaptionsTests {
  let scene: CacheScene

  init() async throws { scene = try await CacheScene() }

  /// Writes the scene's images under the same names, with those of their captions that `choose` takes.
  private func write(_ name: String, _ choose: (_ captions: [String], _ sample: Int) -> [String]) throws -> String {
    let dataset = try Dataset.open(scene.scene.dataset)
    let folder = scene.scene.folder.path(name)
    var writer = try DatasetWriter(name: dataset.name, folder: folder)
    for sample in 0..<dataset.count {
      try writer.append(
        DatasetSample(
          image: dataset.image(sample), captions: choose(dataset.captions(sample), sample), key: dataset.key(sample)))
    }
    _ = try writer.finish()
    return folder
  }

  @Test func theFirstLossIsTheSum() async throws {
    let values = ["steps=1", "data.captions=all"]
    let both = try await scene.teacher.train("both", values)
    var sum = 0.0
    for place in 0..<2 {
      let folder = try write("captions\(place)") { captions, _ in [captions[place]] }
      let losses = try await scene.teacher.train("only\(place)", values + ["data.datasets=[\"\(folder)\"]"])
      sum += losses[0]
    }
    #expect(difference(both, [sum]) < 1e-5)
  }

  @Test func ranksMicroBatchesAndCachesDoNotMatter() async throws {
    let values = ["steps=6", "data.captions=all", "data.views=2"]
    let run = try await scene.teacher.run(["name=on1"] + values, ranks: 1)
    try #require(run.status == 0, "\(run)")
    #expect(run.output.contains("captions: the loss is the sum over 2 captions of each image"), "\(run)")
    let alone = try scene.scene.losses("on1")
    let pieces = ["batch.micro_batch_size=2", "teacher.micro_batch_size=1"]
    let two = try await scene.teacher.train("on2", values + pieces, ranks: 2)
    #expect(difference(two, alone) < 1e-5)
    try await scene.precompute("cache", ranks: 1)
    let three = try await scene.train("on3", from: "cache", values, ranks: 3)
    #expect(difference(three, alone) < 1e-5)
  }

  /// Images with fewer captions than others show them again in turn.
  @Test func captionsOfBatches() throws {
    let folder = try write("uneven") { captions, sample in
      (captions + ["a third caption"]).prefix(1 + sample % 3).map { $0 }
    }
    let run = try RunConfig.load(
      scene.scene.runFile, overrides: ["data.captions=all", "data.datasets=[\"\(folder)\"]"])
    let vocabulary = try Vocabulary(contentsOf: run.vocabulary)
    let config = try run.model.resolved(for: vocabulary, path: run.vocabulary)
    let tokenizer = BytePairTokenizer(vocabulary: vocabulary, context: config.text.contextLength)
    let data = try TrainingData(run, config.vision, tokenizer: tokenizer)
    #expect(data.captionsPerImage == 3 && data.captions(about: 10).perImage == 3)
    let loader = data.loader(steps: 0..<2, rows: 2..<6, workers: 2)
    for step in 0..<2 {
      let batch = try #require(try loader.next())
      let expected = data.sampler.draws(at: step, rows: 2..<6).flatMap { draw -> [[Int32]] in
        let captions = data.datasets[0].captions(draw.sample)
        return (0..<3).map { tokenizer.encode(captions[$0 % captions.count]) }
      }
      #expect(batch.student.captions == expected)
      loader.recycle(batch)
    }
  }

  /// The text tower, the objective, and its messages count once for each caption.
  @Test func estimates() throws {
    let run = try RunConfig.load(scene.scene.runFile, overrides: ["data.captions=all"])
    let config = try run.model.resolved(for: Vocabulary(contentsOf: run.vocabulary), path: run.vocabulary)
    let (student, _) = CLIP<Float>.student(config, run.objective, teacherWidth: nil)
    func shape(_ perImage: Int) -> RunShape {
      RunShape(
        run: run, config: config, parameters: student.parameters, teacher: nil,
        captions: CaptionSample([[1, 2, 3, 4], [1, 4]], perImage: perImage))
    }
    let (one, two) = (StepWork(shape(1), rows: 7), StepWork(shape(2), rows: 7))
    let images = 7 * config.vision.forwardOperations(embedding: config.embedding)
    #expect(abs(two.forward - (2 * one.forward - images)) <= 1e-9 * two.forward)
    #expect(two.objective == 2 * one.objective)
    func bytes(_ perImage: Int, _ part: String) -> Int {
      let parts = RunEstimate(shape(perImage), rank: 0, of: 2, ofNode: 2).received
      return parts.first { $0.name == part }?.bytes ?? 0
    }
    #expect(bytes(2, "embeddings") == 2 * bytes(1, "embeddings") && bytes(1, "embeddings") > 0)
    #expect(bytes(2, RunEstimate.gradients) == bytes(1, RunEstimate.gradients))
  }

  @Test func gradientsOfTermsAreNotMeasured() {
    let error = #expect(throws: RunFileError.self) {
      try RunConfig.load(scene.scene.runFile, overrides: ["data.captions=all", "log.term_gradients=2"])
    }
    #expect(error?.description.contains("log.term_gradients: is measured for one caption of each image") == true)
  }
}
