import Dist
import Foundation
import Model
import Tensor

/// A source of the teacher's embeddings of batches.
protocol TeacherSource {
  var width: Int { get }
  /// The factor β = e^logit_scale of the teacher's similarities.
  var scale: Float { get }
  /// Allocates the memory for captions like these, in batches of `rows` pairs.
  func reserve(_ captions: CaptionSample, rows: Int)
  /// Writes the unit embeddings of a batch's images [b, d] and of their captions, in its order.
  func embed(_ batch: TrainingBatch, image: Tensor<Float>, text: Tensor<Float>) throws
}

/// A frozen model that embeds this rank's rows of every batch. Ranks that share sharded weights must call `embed`
/// together.
final class LiveTeacher: TeacherSource {
  let model: CLIP<Float>
  let microBatchSize: Int
  private let sharded: ShardedWeights?
  private let reciprocal = Buffer<Float>()

  init(_ model: CLIP<Float>, microBatchSize: Int?, sharded: ShardedWeights? = nil) {
    (self.model, self.microBatchSize, self.sharded) = (model, microBatchSize ?? Int.max, sharded)
  }

  var width: Int { model.config.embedding }
  var scale: Float { exp(model.logitScale.value[0]) }

  func reserve(_ captions: CaptionSample, rows: Int) {
    let held = min(rows, microBatchSize) * captions.perImage
    guard held > 0, captions.longest > 0 else { return }
    model.text.reserve(captions: held, tokens: captions.tokens(of: held), longest: captions.longest, mode: .evaluation)
  }

  func embed(_ batch: TrainingBatch, image: Tensor<Float>, text: Tensor<Float>) throws {
    guard let input = batch.teacher else { preconditionFailure("the batch was not prepared for a teacher") }
    let (captions, each, count) = (input.captions, batch.captionsPerImage, input.images.shape[0])
    let microBatches = stride(from: 0, to: count, by: microBatchSize).map {
      $0..<$0 + min(microBatchSize, count - $0)
    }
    let passes = try sharded?.group.allReduce(microBatches.count, .maximum) ?? microBatches.count
    for rows in microBatches {
      let texts = rows.lowerBound * each..<rows.upperBound * each
      let forward = { [self] in
        normalize(model.visual.forward(input.images.samples(rows), mode: .evaluation), into: image.rows(rows))
        normalize(model.text.forward(captions[texts], mode: .evaluation), into: text.rows(texts))
      }
      if let sharded { try sharded.pass(Array(captions[texts]), forward) } else { forward() }
    }
    // Ranks with more micro-batches need this rank's part of the weights for them.
    for _ in microBatches.count..<passes { try sharded?.pass([]) }
  }

  private func normalize(_ features: Tensor<Float>, into rows: Tensor<Float>) {
    normalizeRows(features, into: rows, reciprocal: reciprocal.tensor(Shape(features.rows)))
  }
}
