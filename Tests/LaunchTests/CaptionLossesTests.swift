import Model
import Settings
import Tensor
import TestSupport
import Testing

@testable import Launch

/// The loss of images with several captions each, in double precision on one rank.
@Suite struct CaptionLossesTests {
  private static let (pairs, each, width, teacherWidth) = (5, 3, 4, 6)

  private let image = Tensor<Double>.random(Shape(Self.pairs, Self.width), "image")
  private let text = Tensor<Double>.random(Shape(Self.pairs * Self.each, Self.width), "text")
  private let teacher = (
    image: Self.unit(Self.pairs, "teacher's image"), text: Self.unit(Self.pairs * Self.each, "teacher's text")
  )

  private static func unit(_ rows: Int, _ name: String) -> Tensor<Double> {
    let x = Tensor<Double>.random(Shape(rows, teacherWidth), name)
    normalizeRows(x, into: x, reciprocal: Tensor(Shape(rows)))
    return x
  }

  /// Returns an objective with heads and a learned scale between widths, in the store of a model.
  private func student() -> (model: CLIP<Double>, objective: Objective<Double>) {
    let config = CLIPConfig(
      embedding: Self.width, vision: VisionConfig(imageSize: 2, patchSize: 2, width: 2, layers: 1, headWidth: 2),
      text: TextConfig(contextLength: 3, vocabularySize: 5, width: 2, heads: 1, layers: 1))
    var options = ObjectivePreset.intra.options
    options[FDSettings.self].weight = Scheduled(20)
    options[ICLSettings.self].weight = Scheduled(1)
    let (model, objective) = CLIP<Double>.student(config, options, teacherWidth: Self.teacherWidth)
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 5)
    return (model, objective)
  }

  private func batch(captionsPerImage: Int) -> StepBatch<Double> {
    StepBatch(
      images: Tensor(Shape(Self.pairs, 3, 2, 2)), captions: [], captionsPerImage: captionsPerImage,
      rows: 0..<Self.pairs, count: Self.pairs, teacherScale: 20)
  }

  private func run(
    _ losses: CaptionLosses<Double>, _ model: CLIP<Double>, _ text: Tensor<Double>, _ teacherText: Tensor<Double>,
    captionsPerImage each: Int
  ) throws -> ObjectiveReport {
    let rows = losses.teacherRows(0..<Self.pairs, of: Self.pairs, captionsPerImage: each)
    copy(teacher.image, into: rows.image)
    copy(teacherText, into: rows.text)
    return try losses.accumulate(
      (image, text), batch(captionsPerImage: each), logitScale: model.logitScale, ranks: SingleRank())
  }

  /// Value and gradients are the sums of those with the first captions, the second ones, and the third ones.
  @Test func isTheSumOverCaptions() throws {
    let (model, objective) = student()
    let losses = CaptionLosses(objective)
    let found = try run(losses, model, text, teacher.text, captionsPerImage: Self.each)
    let gradients = losses.rawGradients()

    let (plainModel, plain) = student()
    let dimage = Tensor<Double>(image.shape)
    var (total, values) = (0.0, [Double](repeating: 0, count: found.terms.count))
    for place in 0..<Self.each {
      let places = (0..<Self.pairs).map { $0 * Self.each + place }
      let (own, theirs) = (Tensor<Double>(image.shape), Tensor<Double>(teacher.image.shape))
      gatherRows(text, places, into: own)
      gatherRows(teacher.text, places, into: theirs)
      let one = CaptionLosses(plain)
      let report = try run(one, plainModel, own, theirs, captionsPerImage: 1)
      total += report.total
      #expect(report.terms.map(\.name) == found.terms.map(\.name))
      for (index, term) in report.terms.enumerated() { values[index] += term.value }
      if place == 0 { #expect(report.anchors == found.anchors && !report.anchors.isEmpty) }
      let raw = one.rawGradients()
      add(raw.image, to: dimage)
      let dtext = Tensor<Double>(image.shape)
      gatherRows(gradients.text, places, into: dtext)
      expect(dtext, raw.text, "captions \(place)")
    }
    #expect(abs(found.total - total) <= 1e-13 * abs(total))
    #expect(Deviation(found.terms.map(\.value), from: values).relative <= 1e-13)
    expect(gradients.image, dimage, "images")
    expect(model.parameters.gradients, plainModel.parameters.gradients, "parameters")
  }

  private func expect(_ found: Tensor<Double>, _ expected: Tensor<Double>, _ name: String) {
    let deviation = Deviation(found.array, from: expected.array)
    #expect(deviation.relative <= 1e-13 && deviation.size > 0, "\(name): \(deviation)")
  }

  @Test func differences() throws {
    let (model, objective) = student()
    let losses = CaptionLosses(objective)
    let (dimage, dtext) = (Tensor<Double>(image.shape), Tensor<Double>(text.shape))
    func value() throws -> Double {
      try run(losses, model, text, teacher.text, captionsPerImage: Self.each).total
    }
    let report = try GradientCheck(
      [
        .init("images", image, gradient: dimage, accumulates: false),
        .init("captions", text, gradient: dtext, accumulates: false),
      ], roundings: 64
    ).run {
      [try value()]
    } backward: { weights in
      _ = try value()
      let raw = losses.rawGradients()
      copy(raw.image, into: dimage)
      copy(raw.text, into: dtext)
      for gradient in [dimage, dtext] { scale(gradient, by: weights[0]) }
    }
    #expect(report.passed, "\(report)")
  }
}
