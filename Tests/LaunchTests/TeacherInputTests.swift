import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// The inputs and the embeddings of a live teacher, compared with plain preparation and plain towers.
@Suite struct TeacherInputTests {
  let scene: TeacherScene

  init() async throws { scene = try await TeacherScene() }

  private func run(_ values: [String]) throws -> RunConfig {
    try RunConfig.load(
      scene.scene.runFile,
      overrides: ["teacher=\"\(scene.teacher)\"", TeacherScene.objective, "image.grayscale=0.5"] + values)
  }

  /// The parts of a run that prepare its batches.
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
        run, config.vision, tokenizer: student, teacher: teacher.input)
    }
  }

  @Test func inputsAndEmbeddingsEqualThoseOfTheTeacherAlone() throws {
    let run = try run([])
    let parts = try Parts(run)
    let teacher = CLIP<Float>(parts.teacher.config, frozen: true)
    try parts.teacher.read(into: teacher, ranges: nil)
    let live = LiveTeacher(teacher, microBatchSize: 3)
    let model = CLIP<Float>(try ModelFiles.sizes(scene.sizes), frozen: true)
    try ModelFiles.read(scene.weights, into: model)
    #expect(live.width == 24 && live.scale == exp(model.logitScale.value[0]))

    // Images have the teacher's size, normalisation and handling of transparency, and the run's crops and colors.
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

  /// A teacher with the same image preparation as the student reads the same memory. With the same vocabulary it gets
  /// the same token ids.
  @Test func equalInputsArePreparedOnce() async throws {
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
