internal import Tensor

/// A student's raw rows in the teacher's width: norm(W x + b), with W [d_t, d_s] and b [d_t].
///
/// A proper parameter: the same on all ranks, summed, saved and resumed like the towers'.
final class Head<S: Scalar> {
  let rows = UnitRows<S>()
  private let linear: Linear<S>

  init(_ parameters: ObjectiveParameters<S>, _ name: String) {
    linear = parameters.linear(name, from: parameters.studentWidth, to: parameters.teacherWidth)
  }

  /// Raw rows [b, d_s] to unit rows [b, d_t] in `rows`; alone, there is no room to gather those of others.
  func forward(_ raw: Tensor<S>, _ batch: LocalBatch, alone: Bool) {
    rows.place(batch, width: linear.bias.shape.count, alone: alone)
    linear.forward(raw, into: rows.own)
    rows.normalizeInPlace()
  }

  /// Adds to the gradients of W and b, and to `gradient`, that of the raw rows.
  func backward(_ raw: Tensor<S>, addingTo gradient: Tensor<S>) {
    let dy = rows.rawGradient()
    matmul(dy, linear.weight.value, into: gradient, beta: 1)
    matmul(dy, raw, into: linear.weight.gradient, transposeA: true, beta: 1)
    addColumnSums(of: .exact(dy), to: linear.bias.gradient)
  }
}
