public import Tensor

/// The modalities, by the names that run files and logs give their parts.
enum Modality: String, CaseIterable {
  case image, text

  var other: Modality { self == .image ? .text : .image }
}

/// One value for images and one for captions.
public struct Modalities<T> {
  public var image: T
  public var text: T

  var both: [T] { [image, text] }
  /// The same values with images and captions exchanged.
  var swapped: Modalities { Modalities(image: text, text: image) }
  subscript(_ modality: Modality) -> T { modality == .image ? image : text }
  func map<U>(_ transform: (T) -> U) -> Modalities<U> { Modalities<U>(image: transform(image), text: transform(text)) }
}

extension Modalities {
  init(_ make: () -> T) { self.init(image: make(), text: make()) }
}

/// Rows of numbers, one for each pair of the global batch; each rank computes its own. Rows of one number are vectors.
public class GlobalRows<S: Scalar> {
  /// The local rows [b, e], a part of `all`.
  final private(set) var own = Tensor<S>(Shape(0, 0))
  /// The global rows [N, e], after `gather`.
  final private(set) var all = Tensor<S>(Shape(0, 0))
  private let memory = Buffer<S>()

  /// Makes room for the rows, of which the caller fills the local ones; with `alone`, for the local ones only.
  final func place(_ batch: LocalBatch, width: Int = 1, alone: Bool = false) {
    if alone {
      own = memory.tensor(Shape(batch.rows.count, width))
      all = Tensor(Shape(0, width))
    } else {
      all = memory.tensor(Shape(batch.count, width))
      own = all.rows(batch.rows)
    }
  }

  final func gather(_ ranks: some Ranks<S>) throws { try ranks.allGather(own, into: all) }

  /// Makes room for a vector and sets all of its numbers, local and global, to the same.
  final func set(_ value: S, _ batch: LocalBatch) {
    place(batch)
    fill(all, value)
  }
}

/// The unit rows of one modality, with the gradient of the local ones.
final class UnitRows<S: Scalar>: GlobalRows<S> {
  /// ∂L/∂own [b, e], to which terms add.
  private(set) var gradient = Tensor<S>(Shape(0, 0))
  private let reciprocals = Buffer<S>()
  private let gradients = Buffer<S>()

  /// Sets `own` to the raw rows [b, e] divided by their lengths, and clears the gradient. The raw rows may already be
  /// in the place of the unit rows.
  func normalize(_ raw: Tensor<S>) {
    normalizeRows(raw, into: own, reciprocal: reciprocals.tensor(Shape(own.rows)))
    gradient = gradients.tensor(own.shape)
    fill(gradient, 0)
  }

  /// Returns the gradient with respect to the raw rows, which overwrites that of the unit rows.
  func rawGradient() -> Tensor<S> {
    pullBack(gradient)
    return gradient
  }

  /// Replaces a gradient of the unit rows [b, e] by that of the raw rows.
  func pullBack(_ gradient: Tensor<S>) {
    normalizeRowsBackward(gradient, y: own, reciprocal: reciprocals.tensor(Shape(own.rows)))
  }

  /// Returns Σ_i ‖r_i‖² ‖g_i‖² for the raw rows r and a gradient g of them, both [b, e].
  func scaledSquares(_ gradient: Tensor<S>) -> Double {
    let scales = reciprocals.tensor(Shape(own.rows))
    return (0..<own.rows).reduce(0.0) { sum, i in
      // A row of zeros has no direction.
      let scale = Double(scales[i])
      return scale == 0 ? sum : sum + sumOfSquares(gradient.rows(i..<i + 1)) / (scale * scale)
    }
  }
}
