internal import Tensor

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
  func place(_ share: BatchShare, width: Int, alone: Bool = false) { rows.place(share, width: width, alone: alone) }

  /// own ← raw rows [b, e] over their lengths; the gradient is cleared.
  func normalize(_ raw: Tensor<S>, _ share: BatchShare) {
    place(share, width: raw.columns)
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
  func place(_ share: BatchShare, width: Int, alone: Bool = false) {
    if alone {
      own = memory.tensor(Shape(share.rows.count, width))
      all = Tensor(Shape(0, width))
    } else {
      all = memory.tensor(Shape(share.count, width))
      own = all.rows(share.rows)
    }
  }

  func gather(_ ranks: some Ranks<S>) throws { try ranks.gatherRows(own, into: all) }
}

/// A number for each row of the global batch, of which each rank computes its own.
final class RowVector<S: Scalar> {
  private(set) var own = Tensor<S>(Shape(0))
  private(set) var all = Tensor<S>(Shape(0))
  private let memory = Buffer<S>()

  func place(_ share: BatchShare) {
    all = memory.tensor(Shape(share.count))
    own = all.slice(share.rows)
  }

  func gather(_ ranks: some Ranks<S>) throws {
    try ranks.gatherRows(own.reshaped(Shape(own.count, 1)), into: all.reshaped(Shape(all.count, 1)))
  }

  /// The same number for every row.
  func set(_ value: S, _ share: BatchShare) {
    place(share)
    fill(all, value)
  }
}
