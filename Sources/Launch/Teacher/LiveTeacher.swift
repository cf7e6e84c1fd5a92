import Foundation
import Model
import Tensor

/// A frozen model that embeds every batch anew, some pairs at a time. Each rank embeds its own rows; where weights are
/// sharded, all ranks that hold them must embed at the same time, be it no rows.
final class LiveTeacher: TeacherSource {
  let model: CLIP<Float>
  /// At most so many pairs go through the towers at once.
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
    guard let input = batch.teacher else { preconditionFailure("a batch that was not prepared for a teacher") }
    let captions = input.captions
    let most = try sharded?.most(captions.isEmpty ? 0 : (captions.count - 1) / microBatchSize + 1) ?? 0
    var passes = 0
    for start in stride(from: 0, to: captions.count, by: microBatchSize) {
      let rows = start..<start + min(microBatchSize, captions.count - start)
      let forward = { [self] in
        normalize(model.visual.forward(input.images.samples(rows), mode: .evaluation), into: image.rows(rows))
        normalize(model.text.forward(captions[rows], mode: .evaluation), into: text.rows(rows))
      }
      if let sharded { try sharded.pass(Array(captions[rows]), forward) } else { forward() }
      passes += 1
    }
    guard let sharded else { return }
    // Others may have a pair more, and need this rank's part of the weights for it.
    while passes < most {
      try sharded.pass([])
      passes += 1
    }
  }

  private func normalize(_ features: Tensor<Float>, into rows: Tensor<Float>) {
    normalizeRows(features, into: rows, reciprocal: reciprocal.tensor(Shape(features.rows)))
  }
}
