public import Tensor

/// The unit rows of one modality: this rank's, everybody's, and the gradient with respect to this rank's.
final class UnitRows<S: Scalar> {
  /// [b, e].
  var own: Tensor<S> { rows.own }
  /// [N, e], after `gather`.
  var all: Tensor<S> { rows.all }
  /// ∂L/∂own [b, e]: terms add to it.
  private(set) var gradient = Tensor<S>(Shape(0, 0))

  private let rows = GlobalRows<S>()
  private let reciprocals = Buffer<S>()
  private let gradients = Buffer<S>()

  /// Room for this rank's rows within everybody's, for others to fill; then `gather`. Alone, there are no others.
  func place(_ batch: LocalBatch, width: Int, alone: Bool = false) { rows.place(batch, width: width, alone: alone) }

  /// own ← raw rows [b, e] over their lengths; the gradient is cleared.
  func normalize(_ raw: Tensor<S>, _ batch: LocalBatch) {
    place(batch, width: raw.columns)
    normalize(raw)
  }

  /// The same of raw rows that have been put where the unit rows go.
  func normalizeInPlace() { normalize(own) }

  private func normalize(_ raw: Tensor<S>) {
    normalizeRows(raw, into: own, reciprocal: reciprocals.tensor(Shape(own.rows)))
    gradient = gradients.tensor(own.shape)
    fill(gradient, 0)
  }

  func gather(_ ranks: some Ranks<S>) throws { try rows.gather(ranks) }

  /// The gradient with respect to the raw rows, in the place of that to the unit rows.
  func rawGradient() -> Tensor<S> {
    normalizeRowsBackward(gradient, y: own, reciprocal: reciprocals.tensor(Shape(own.rows)))
    return gradient
  }
}

/// A row for each pair of the global batch, of which each rank computes its own.
final class GlobalRows<S: Scalar> {
  /// [b, e], a part of `all`.
  private(set) var own = Tensor<S>(Shape(0, 0))
  /// [N, e].
  private(set) var all = Tensor<S>(Shape(0, 0))
  private let memory = Buffer<S>()

  /// Alone, there is memory for this rank's rows only.
  func place(_ batch: LocalBatch, width: Int, alone: Bool = false) {
    if alone {
      own = memory.tensor(Shape(batch.rows.count, width))
      all = Tensor(Shape(0, width))
    } else {
      all = memory.tensor(Shape(batch.count, width))
      own = all.rows(batch.rows)
    }
  }

  func gather(_ ranks: some Ranks<S>) throws { try ranks.allGather(own, into: all) }
}

/// A number for each row of the global batch, of which each rank computes its own.
public final class RowVector<S: Scalar> {
  private(set) var own = Tensor<S>(Shape(0))
  private(set) var all = Tensor<S>(Shape(0))
  private let memory = Buffer<S>()

  func place(_ batch: LocalBatch) {
    all = memory.tensor(Shape(batch.count))
    own = all.slice(batch.rows)
  }

  func gather(_ ranks: some Ranks<S>) throws {
    try ranks.allGather(own.reshaped(Shape(own.count, 1)), into: all.reshaped(Shape(all.count, 1)))
  }

  /// The same number for every row.
  func set(_ value: S, _ batch: LocalBatch) {
    place(batch)
    fill(all, value)
  }
}

extension Modalities {
  /// The same weight for every row of both modalities.
  func set<S: Scalar>(_ value: S, _ batch: LocalBatch) where T == RowVector<S> {
    image.set(value, batch)
    text.set(value, batch)
  }
}
