import Foundation
import Model
import Tensor

/// A frozen model that embeds every batch anew, some pairs at a time. Each rank holds all of it and embeds its own rows.
final class LiveTeacher: TeacherSource {
  let model: CLIP<Float>
  /// At most so many pairs go through the towers at once.
  let micro: Int

  private let reciprocal = Buffer<Float>()

  init(_ model: CLIP<Float>, micro: Int?) {
    self.model = model
    self.micro = micro ?? Int.max
  }

  var width: Int { model.config.embedding }
  var scale: Float { exp(model.logitScale.value[0]) }

  func embed(_ batch: TrainingBatch, image: Tensor<Float>, text: Tensor<Float>) {
    guard let input = batch.teacher else { preconditionFailure("a batch that was not prepared for a teacher") }
    let captions = input.captions
    for start in stride(from: 0, to: captions.count, by: micro) {
      let rows = start..<start + min(micro, captions.count - start)
      normalize(model.visual.forward(input.images.pictures(rows), keeping: false), into: image.rows(rows))
      normalize(model.text.forward(TokenBatch(captions[rows]), keeping: false), into: text.rows(rows))
    }
  }

  private func normalize(_ features: Tensor<Float>, into rows: Tensor<Float>) {
    normalizeRows(features, into: rows, reciprocal: reciprocal.tensor(Shape(features.rows)))
  }
}
