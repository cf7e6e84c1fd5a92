import Model
import Tensor

// b images of a rank with K captions each: rows [b, e] of images and [b K, e] of captions, those of an image one after
// another.

/// The loss of a step: the objective over the global batch with the first caption of each image, plus the objective
/// with the second one, and so on. With one caption of each image it is the objective itself.
final class CaptionLosses<S: Scalar> {
  let objective: Objective<S>
  private let texts = Buffer<S>()
  private let sums = (image: Buffer<S>(), text: Buffer<S>())
  /// The gradients of the last step; nil if those of the objective are the whole.
  private var gradients: (image: Tensor<S>, text: Tensor<S>)?
  /// Each teacher's rows of all captions, if an image has several.
  private var teachers: [Buffer<S>] = []
  private var places: [Int] = []

  init(_ objective: Objective<S>) { self.objective = objective }

  /// Returns memory for the unit rows of a teacher, those of images [b, d] and of their captions [b K, d], which the
  /// caller fills before `accumulate`. Further teachers are numbered from 1.
  func teacherRows(
    _ rows: Range<Int>, of count: Int, captionsPerImage each: Int, teacher index: Int = 0
  ) -> (image: Tensor<S>, text: Tensor<S>) {
    let own = objective.teacherRows(rows, of: count, teacher: index)
    guard each > 1 else { return own }
    while teachers.count <= index { teachers.append(Buffer()) }
    return (own.image, teachers[index].tensor(Shape(rows.count * each, own.text.columns)))
  }

  /// Computes the loss of raw features, as `Objective.accumulate` does. The report has the sums of the terms, and the
  /// anchors of the images' first captions.
  func accumulate(
    _ features: (image: Tensor<S>, text: Tensor<S>), _ batch: StepBatch<S>, logitScale: Parameter<S>,
    ranks: some Ranks<S>
  ) throws -> ObjectiveReport {
    func loss(_ text: Tensor<S>) throws -> ObjectiveReport {
      try objective.accumulate(
        image: features.image, text: text, rows: batch.rows, count: batch.count, logitScale: logitScale,
        teacherScale: batch.teacherScale, ranks: ranks)
    }
    let (b, each) = (batch.rows.count, batch.captionsPerImage)
    gradients = nil
    guard each > 1 else { return try loss(features.text) }
    let sum = (image: sums.image.tensor(features.image.shape), text: sums.text.tensor(features.text.shape))
    fill(sum.image, 0)
    fill(sum.text, 0)
    let text = texts.tensor(features.image.shape)
    var reports: [ObjectiveReport] = []
    for place in 0..<each {
      places.removeAll(keepingCapacity: true)
      for row in 0..<b { places.append(row * each + place) }
      gatherRows(features.text, places, into: text)
      for index in teachers.indices where batch.teacherScale != nil {
        let own = objective.teacherRows(batch.rows, of: batch.count, teacher: index).text
        gatherRows(teachers[index].tensor(Shape(b * each, own.columns)), places, into: own)
      }
      reports.append(try loss(text))
      let raw = objective.rawGradients()
      add(raw.image, to: sum.image)
      addRows(raw.text, places, to: sum.text)
    }
    gradients = sum
    return reports.sum
  }

  /// Returns the gradients with respect to the raw features [b, e] and [b K, e] of the last `accumulate`. Call it once
  /// for each `accumulate`.
  func rawGradients() -> (image: Tensor<S>, text: Tensor<S>) { gradients ?? objective.rawGradients() }
}

extension [ObjectiveReport] {
  /// The sum of the values of one objective's reports, with the anchors of the first.
  fileprivate var sum: ObjectiveReport {
    var sum = self[0]
    sum.total = reduce(0) { $0 + $1.total }
    for index in sum.terms.indices { sum.terms[index].value = reduce(0) { $0 + $1.terms[index].value } }
    return sum
  }
}
