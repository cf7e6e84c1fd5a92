internal import Tensor

/// Measures each term's gradient with respect to the student's unit embeddings, for whoever tunes weights.
///
/// For a term's weighted value L and the raw features r of images and captions, the norm over the global batch is
///
///     ( Σ_i ‖r_i‖² ‖∂L/∂r_i‖² )^½
///
/// For a term of u = r/‖r‖ this is the norm of ∂L/∂u without its part along u, which the towers never see. Terms that
/// read ũ = norm(W r + b) are measured in the same unit. A term's gradient is the difference of the sums after it and
/// before it: the sums themselves stay the same to the bit, and in single precision the difference is known to about
/// 10⁻⁷ of their size.
final class TermGradients<S: Scalar> {
  private let unit = Modalities { Buffer<S>() }
  private let projected = Modalities { Buffer<S>() }

  /// Calls `accumulate`, which adds a term's gradient to the student's rows or, through `heads`, to its rows in the
  /// teacher's width. Appends this rank's share of the square of the norm to `squares`.
  func measure<R>(
    _ student: Modalities<UnitRows<S>>, _ heads: Modalities<Head<S>>?, appendingTo squares: inout [Double],
    _ accumulate: () throws -> R
  ) rethrows -> R {
    for modality in Modality.allCases {
      keep(student[modality], unit[modality])
      if let heads { keep(heads[modality].rows, projected[modality]) }
    }
    let result = try accumulate()
    var square = 0.0
    for modality in Modality.allCases {
      let gradient = growth(student[modality], unit[modality])
      if let head = heads?[modality] {
        matmul(growth(head.rows, projected[modality]), head.linear.weight.value, into: gradient, beta: 1)
      }
      square += student[modality].scaledSquares(gradient)
    }
    squares.append(square)
    return result
  }

  private func keep(_ rows: UnitRows<S>, _ memory: Buffer<S>) {
    copy(rows.gradient, into: memory.tensor(rows.gradient.shape))
  }

  /// Returns what the rows' gradient has gained since `keep`, as a gradient of the raw rows.
  private func growth(_ rows: UnitRows<S>, _ memory: Buffer<S>) -> Tensor<S> {
    let gradient = memory.tensor(rows.gradient.shape)
    scale(gradient, by: -1)
    add(rows.gradient, to: gradient)
    rows.pullBack(gradient)
    return gradient
  }
}
