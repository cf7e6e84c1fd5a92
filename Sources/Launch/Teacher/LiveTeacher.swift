import Dist
import Foundation
import Model
import Tensor

/// A source of the teacher's embeddings of batches.
protocol TeacherSource {
  /// The width d of an embedding.
  var width: Int { get }
  /// The factor β = e^logit_scale of the teacher's similarities.
  var scale: Float { get }

  /// Allocates the memory for captions like these, in batches of `rows` pairs.
  func reserve(_ captions: CaptionSample, rows: Int)

  /// Writes the unit embeddings [b, d] of the images and captions of a batch, in its order.
  func embed(_ batch: TrainingBatch, image: Tensor<Float>, text: Tensor<Float>) throws
}

/// A frozen model that embeds every batch during training, one micro-batch at a time.
///
/// Each rank embeds its own rows. If the weights are sharded, all ranks that share them must call `embed` together,
/// even those without rows.
final class LiveTeacher: TeacherSource {
  let model: CLIP<Float>
  /// The most pairs that the towers process together.
  let microBatchSize: Int

  private let sharded: ShardedWeights?
  private let reciprocal = Buffer<Float>()

  init(_ model: CLIP<Float>, microBatchSize: Int?, sharded: ShardedWeights? = nil) {
    self.model = model
    self.microBatchSize = microBatchSize ?? Int.max
    self.sharded = sharded
  }

  var width: Int { model.config.embedding }
  var scale: Float { exp(model.logitScale.value[0]) }

  func reserve(_ captions: CaptionSample, rows: Int) {
    let held = min(rows, microBatchSize)
    guard held > 0, captions.longest > 0 else { return }
    model.text.reserve(
      captions: held, tokens: captions.tokens(of: held), longest: captions.longest, mode: .evaluation)
  }

  func embed(_ batch: TrainingBatch, image: Tensor<Float>, text: Tensor<Float>) throws {
    guard let input = batch.teacher else { preconditionFailure("the batch was not prepared for a teacher") }
    let captions = input.captions
    let microBatches = stride(from: 0, to: captions.count, by: microBatchSize).map {
      $0..<$0 + min(microBatchSize, captions.count - $0)
    }
    let passes = try sharded?.group.allReduce(microBatches.count, .maximum) ?? microBatches.count
    for rows in microBatches {
      let forward = { [self] in
        normalize(model.visual.forward(input.images.samples(rows), mode: .evaluation), into: image.rows(rows))
        normalize(model.text.forward(captions[rows], mode: .evaluation), into: text.rows(rows))
      }
      if let sharded { try sharded.pass(Array(captions[rows]), forward) } else { forward() }
    }
    // Ranks with more micro-batches need this rank's part of the weights for them.
    for _ in microBatches.count..<passes { try sharded?.pass([]) }
  }

  private func normalize(_ features: Tensor<Float>, into rows: Tensor<Float>) {
    normalizeRows(features, into: rows, reciprocal: reciprocal.tensor(Shape(features.rows)))
  }
}
