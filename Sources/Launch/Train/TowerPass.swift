import Dist
import Model
import Tensor

/// The forward and backward passes of both towers over this rank's pairs, at most `microBatchSize` pairs at a time.
///
/// The loss needs the features of the whole batch. With more than one micro-batch, all features are therefore computed
/// first without keeping activations, and backward runs each micro-batch's forward again.
final class TowerPass<S: Scalar> {
  let model: CLIP<S>
  let frozen: Frozen
  private let microBatchSize: Int
  private let communicator: Communicator
  private let features = (image: Buffer<S>(), text: Buffer<S>())

  /// - Parameter microBatchSize: nil: all pairs pass at once.
  init(_ model: CLIP<S>, frozen: Frozen, microBatchSize: Int?, over communicator: Communicator) {
    (self.model, self.frozen, self.communicator) = (model, frozen, communicator)
    self.microBatchSize = microBatchSize ?? Int.max
  }

  /// Cuts this rank's `own` pairs of a global batch of `count` into as many micro-batches as every other rank has:
  /// batch norm over all ranks meets in each of them.
  private func microBatches(_ own: Int, of count: Int) -> [Range<Int>] {
    let most = communicator.slices(of: count).map(\.count).max() ?? 0
    let pieces = max((most - 1) / microBatchSize + 1, 1)
    return (0..<pieces).map { $0 * own / pieces..<($0 + 1) * own / pieces }
  }

  /// Allocates the text tower's memory for captions like these, of which this rank has `rows` of `count`, so that later
  /// steps with more tokens than the first allocate nothing.
  func reserve(_ captions: CaptionSample, rows: Int, of count: Int) {
    let pieces = microBatches(rows, of: count)
    guard let held = pieces.map(\.count).max(), held > 0, captions.longest > 0 else { return }
    for mode: ForwardMode in frozen.text ? [.evaluation] : pieces.count == 1 ? [.training] : [.noGrad, .training] {
      model.text.reserve(captions: held, tokens: captions.tokens(of: held), longest: captions.longest, mode: mode)
    }
  }

  /// Returns the raw features [b, e] of all pairs.
  func forward(_ batch: StepBatch<S>) -> (image: Tensor<S>, text: Tensor<S>) {
    let pieces = microBatches(batch.captions.count, of: batch.count)
    if pieces.count == 1 {
      return (
        model.visual.forward(batch.images, mode: frozen.image ? .evaluation : .training),
        model.text.forward(batch.captions, mode: frozen.text ? .evaluation : .training)
      )
    }
    let shape = Shape(batch.captions.count, model.config.embedding)
    let (image, text) = (features.image.tensor(shape), features.text.tensor(shape))
    for piece in pieces {
      let mode = frozen.image ? ForwardMode.evaluation : .noGrad
      copy(model.visual.forward(batch.images.samples(piece), mode: mode), into: image.rows(piece))
      copy(model.text.forward(batch.captions[piece], mode: .evaluation), into: text.rows(piece))
    }
    return (image, text)
  }

  /// Adds the gradients of the towers that are trained, given those of the raw features. `lastBegins` is called before
  /// the last micro-batch, from which on a stage's gradients are complete once its backward is over.
  func backward(
    _ batch: StepBatch<S>, _ gradients: (image: Tensor<S>, text: Tensor<S>), lastBegins: () -> Void
  ) {
    let pieces = microBatches(batch.captions.count, of: batch.count)
    for (index, piece) in pieces.enumerated() {
      if index == pieces.count - 1 { lastBegins() }
      if !frozen.text {
        if pieces.count > 1 { _ = model.text.forward(batch.captions[piece], mode: .training) }
        model.text.backward(gradients.text.rows(piece))
      }
      if !frozen.image {
        if pieces.count > 1 { _ = model.visual.forward(batch.images.samples(piece), mode: .training) }
        model.visual.backward(gradients.image.rows(piece))
      }
    }
  }
}
