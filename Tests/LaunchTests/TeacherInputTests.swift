import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// What a live teacher is shown and what it makes of it, against preparation and towers used plainly.
@Suite(.serialized) struct TeacherInputTests {
  let scene: TeacherScene

  init() async throws { scene = try await TeacherScene() }

  private func run(_ values: [String]) throws -> RunConfig {
    try RunConfig.load(
      scene.scene.runFile,
      overrides: ["teacher=\"\(scene.teacher)\"", TeacherScene.objective, "image.grayscale=0.5"] + values)
  }

  /// The parts of a run, as the trainer puts them together.
  private struct Parts {
    let teacher: TeacherModel
    let student: BytePairTokenizer
    let data: TrainingData

    init(_ run: RunConfig) throws {
      teacher = try #require(try TeacherModel(run))
      let vocabulary = try Vocabulary(contentsOf: run.vocabulary)
      let config = try run.model.resolved(for: vocabulary, path: run.vocabulary)
      student = BytePairTokenizer(vocabulary: vocabulary, context: config.text.contextLength)
      data = try TrainingData(
        run, imageSize: config.vision.imageSize, tokenizer: student, teacher: teacher.input)
    }
  }

  @Test func cropsWordsAndEmbeddingsAreWhatTheTeacherAloneWouldHave() throws {
    let run = try run([])
    let parts = try Parts(run)
    let taught = CLIP<Float>(parts.teacher.config, frozen: true)
    try parts.teacher.read(into: taught, ranges: nil)
    let live = LiveTeacher(taught, microBatchSize: 3)
    let model = CLIP<Float>(try ModelFiles.sizes(scene.sizes), frozen: true)
    try ModelFiles.read(scene.weights, into: model)
    #expect(live.width == 24 && live.scale == exp(model.logitScale.value[0]))

    // The teacher's own size, normalisation and transparency; the run's crops and colours.
    var options = try SavedRun(scene.checkpoint("teacher", 4)).image
    #expect(options.size == 24 && options.mean == [0.5, 0.25, 0.75] && options.alpha == .drop)
    options.scale = run.image.scale
    options.grayscale = 0.5
    let alone = try ImagePreparation(options, seed: run.data.seed)
    let words = BytePairTokenizer(vocabulary: try Vocabulary(contentsOf: scene.words), context: 10)

    let rows = 0..<7
    let loader = parts.data.loader(steps: 0..<8, rows: rows, workers: 2)
    var worst = 0.0
    for step in 0..<8 {
      let batch = try #require(try loader.next())
      let input = try #require(batch.teacher)
      let (image, text) = (Tensor<Float>(Shape(7, 24)), Tensor<Float>(Shape(7, 24)))
      try live.embed(batch, image: image, text: text)
      for (row, draw) in zip(rows, parts.data.sampler.draws(at: step, rows: rows)) {
        let dataset = parts.data.datasets[draw.dataset]
        let pixels = Tensor<Float>(Shape(1, 3, 24, 24))
        try alone.prepareTraining(
          dataset.image(draw.sample), sampleID: dataset.sampleID(draw.sample), view: draw.pass,
          into: pixels.reshaped(Shape(3, 24, 24)))
        #expect(input.image(row).array == pixels.array, "step \(step), row \(row)")
        let caption = try #require(
          dataset.captions(draw.sample).first { parts.student.encode($0) == batch.student.captions[row] })
        #expect(input.captions[row] == words.encode(caption))

        for (found, features) in [
          (image, model.visual.forward(pixels, mode: .evaluation)),
          (text, model.text.forward(TokenBatch([words.encode(caption)]), mode: .evaluation)),
        ] {
          let length = sumOfSquares(features).squareRoot()
          for column in 0..<24 {
            worst = max(worst, abs(Double(found[row * 24 + column]) - Double(features[column]) / length))
          }
        }
      }
      loader.recycle(batch)
    }
    #expect(worst < 1e-5)
  }

  /// A teacher that wants images just as the student does is shown the very same memory; with the same words it gets
  /// the same ids.
  @Test func whatIsTheSameIsPreparedOnce() async throws {
    try await scene.scene.train("twin", ["steps=2"], ranks: nil)
    let parts = try Parts(try run(["teacher=\"\(scene.scene.runFolder("twin").path)\""]))
    #expect(parts.teacher.vocabulary == scene.scene.vocabulary)
    let loader = parts.data.loader(steps: 0..<1, rows: 0..<7, workers: 1)
    let batch = try #require(try loader.next())
    let input = try #require(batch.teacher)
    batch.student.images[5] = 1234
    #expect(input.images[5] == 1234)
    #expect(input.captions == batch.student.captions)
    loader.recycle(batch)
  }
}
