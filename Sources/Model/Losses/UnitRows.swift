public import Tensor

/// One value for images and one for captions.
public struct Modalities<T> {
  public var image: T
  public var text: T

  public init(image: T, text: T) {
    self.image = image
    self.text = text
  }

  /// The same values with images and captions exchanged.
  var swapped: Modalities { Modalities(image: text, text: image) }
}

extension Modalities: Sendable where T: Sendable {}

/// The unit rows of one modality, local and global, with the gradient of the local ones.
final class UnitRows<S: Scalar> {
  /// The local rows [b, e].
  var own: Tensor<S> { rows.own }
  /// The global rows [N, e], after `gather`.
  var all: Tensor<S> { rows.all }
  /// ∂L/∂own [b, e], to which terms add.
  private(set) var gradient = Tensor<S>(Shape(0, 0))

  private let rows = GlobalRows<S>()
  private let reciprocals = Buffer<S>()
  private let gradients = Buffer<S>()

  /// Makes room for the local rows within the global ones. The caller fills them and then calls `gather`. With `alone`
  /// there is no room for other ranks' rows.
  func place(_ batch: LocalBatch, width: Int, alone: Bool = false) { rows.place(batch, width: width, alone: alone) }

  /// Sets `own` to the raw rows [b, e] divided by their lengths, and clears the gradient.
  func normalize(_ raw: Tensor<S>, _ batch: LocalBatch) {
    place(batch, width: raw.columns)
    normalize(raw)
  }

  /// Normalizes raw rows that are already in the place of the unit rows, and clears the gradient.
  func normalizeInPlace() { normalize(own) }

  private func normalize(_ raw: Tensor<S>) {
    normalizeRows(raw, into: own, reciprocal: reciprocals.tensor(Shape(own.rows)))
    gradient = gradients.tensor(own.shape)
    fill(gradient, 0)
  }

  func gather(_ ranks: some Ranks<S>) throws { try rows.gather(ranks) }

  /// Returns the gradient with respect to the raw rows, which overwrites that of the unit rows.
  func rawGradient() -> Tensor<S> {
    normalizeRowsBackward(gradient, y: own, reciprocal: reciprocals.tensor(Shape(own.rows)))
    return gradient
  }
}

/// One row for each pair of the global batch; each rank computes its own rows.
final class GlobalRows<S: Scalar> {
  /// The local rows [b, e], a part of `all`.
  private(set) var own = Tensor<S>(Shape(0, 0))
  /// The global rows [N, e].
  private(set) var all = Tensor<S>(Shape(0, 0))
  private let memory = Buffer<S>()

  /// Makes room for the rows; with `alone`, for the local ones only.
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

/// One number for each row of the global batch; each rank computes its own numbers.
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

  /// Sets all rows to the same number.
  func set(_ value: S, _ batch: LocalBatch) {
    place(batch)
    fill(all, value)
  }
}

extension Modalities {
  /// Gives all rows of both modalities the same weight.
  func set<S: Scalar>(_ value: S, _ batch: LocalBatch) where T == RowVector<S> {
    image.set(value, batch)
    text.set(value, batch)
  }
}
