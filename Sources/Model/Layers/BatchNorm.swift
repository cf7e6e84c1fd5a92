public import Tensor

/// The connection of batch norms to the other ranks, for statistics over all of them.
///
/// A forward does not throw: an error of a collective is kept, and thrown when the statistics are moved.
final class BatchStatistics<S: Scalar> {
  var ranks: (any Ranks<S>)?
  private var failure: (any Error)?

  /// Replaces each number with its sum over the ranks.
  func sum(_ numbers: inout [Double]) {
    guard let ranks, failure == nil else { return }
    do { try ranks.allReduce(&numbers) } catch { failure = error }
  }

  func check() throws {
    if let failure { throw failure }
  }
}

/// Batch norm over all points of all images, followed by the sum with a shortcut and a ReLU: y = f((z − μ)/√(σ² + ε) ·
/// weight + bias + residual), ε = 1e-5 (Ioffe, Szegedy: Batch Normalization, 2015).
///
/// In training, μ and σ² (biased) are those of the batch, on this rank or on all; in evaluation, and if the layer is
/// frozen, they are the running ones. Once a step the running statistics move a tenth of the way to those of the step's
/// batches, the variance to the unbiased one.
public final class BatchNorm<S: Scalar> {
  public let weight: Parameter<S>
  public let bias: Parameter<S>
  public let runningMean: ModelBuffer<S>
  public let runningVariance: ModelBuffer<S>
  /// The number of times that the running statistics have moved.
  public let batches: ModelBuffer<S>

  static var epsilon: Double { 1e-5 }
  static var momentum: Double { 0.1 }

  /// True if it uses the running statistics in training too, and leaves them as they are.
  var isFrozen = false

  private let width: Int
  /// For each column the mean and the sum of squares; in backward the two sums.
  private let sums = Buffer<Double>()
  private let slopes = Buffer<S>()
  private var exchanged: [Double] = []
  /// The rows since the statistics were last moved, and sums over them of their batches' means and unbiased variances.
  private var rowsSeen = 0.0
  private let seen: Tensor<Double>

  /// Backward needs, besides z, mean, scale and 1/√(σ² + ε) of each column, and the number of rows behind them.
  final class Activations {
    fileprivate let columns = Buffer<S>()
    fileprivate var rows = 0.0

    fileprivate func vectors(_ width: Int) -> (mean: Tensor<S>, scale: Tensor<S>, reciprocal: Tensor<S>) {
      let all = columns.tensor(Shape(3, width))
      return (all.rows(0..<1), all.rows(1..<2), all.rows(2..<3))
    }
  }

  init(_ store: ParameterStore<S>, name: String, width: Int, weight: Initial = .ones) {
    self.width = width
    self.weight = store.declare("\(name).weight", Shape(width), weight)
    bias = store.declare("\(name).bias", Shape(width), .zeros)
    runningMean = store.declareBuffer("\(name).running_mean", Shape(width), initial: 0)
    runningVariance = store.declareBuffer("\(name).running_var", Shape(width), initial: 1)
    batches = store.declareBuffer("\(name).num_batches_tracked", Shape(), initial: 0, isCount: true)
    seen = Tensor(Shape(2, width))
  }

  /// z [n, width] → y [n, width], which may be z.
  func forward(
    _ z: MatrixOperand<S>, adding residual: MatrixOperand<S>? = nil, relu: Bool, into y: MatrixOperand<S>,
    mode: ForwardMode, activations: Activations, statistics: BatchStatistics<S>
  ) {
    let (mean, scale, reciprocal) = activations.vectors(width)
    let moments = sums.tensor(Shape(2, width))
    let (mu, variance) = (moments.rows(0..<1), moments.rows(1..<2))
    if mode == .evaluation || isFrozen {
      // They do not depend on the batch, so no row has a share in them.
      activations.rows = 0
      copy(runningMean.value, into: mu)
      copy(runningVariance.value, into: variance)
    } else {
      activations.rows = batchMoments(of: z, mu, variance, statistics)
      if mode == .training { remember(mu, variance, rows: activations.rows) }
    }
    for j in 0..<width {
      let inverse = 1 / (variance[j] + Self.epsilon).squareRoot()
      mean[j] = S(mu[j])
      reciprocal[j] = S(inverse)
      scale[j] = S(Double(weight.value[j]) * inverse)
    }
    batchNorm(z, vectors(activations), adding: residual, relu: relu, into: y)
  }

  private func vectors(_ activations: Activations) -> BatchNormVectors<S> {
    let (mean, scale, _) = activations.vectors(width)
    return BatchNormVectors(mean: mean, scale: scale, bias: bias.value)
  }

  /// y = ReLU(batchNorm(z)) once more, with the batch's statistics in `activations`, which are not counted again.
  func again(_ z: MatrixOperand<S>, into y: MatrixOperand<S>, activations: Activations) {
    batchNorm(z, vectors(activations), relu: true, into: y)
  }

  /// Writes the mean and biased variance of every column over the rows of all ranks, or of this one, and returns the
  /// number of these rows.
  private func batchMoments(
    of z: MatrixOperand<S>, _ mean: Tensor<Double>, _ variance: Tensor<Double>, _ statistics: BatchStatistics<S>
  ) -> Double {
    columnMoments(z, mean: mean, squares: variance)
    var rows = Double(z.rows)
    if statistics.ranks != nil {
      exchange(statistics) { numbers in
        numbers.append(rows)
        for j in 0..<width { numbers.append(rows * mean[j]) }
        for j in 0..<width { numbers.append(variance[j] + rows * mean[j] * mean[j]) }
      }
      rows = exchanged[0]
      for j in 0..<width {
        mean[j] = rows > 0 ? exchanged[1 + j] / rows : 0
        variance[j] = max(exchanged[1 + width + j] - rows * mean[j] * mean[j], 0)
      }
    }
    for j in 0..<width { variance[j] = rows > 0 ? variance[j] / rows : 0 }
    return rows
  }

  private func exchange(_ statistics: BatchStatistics<S>, _ collect: (inout [Double]) -> Void) {
    exchanged.removeAll(keepingCapacity: true)
    collect(&exchanged)
    statistics.sum(&exchanged)
  }

  private func remember(_ mean: Tensor<Double>, _ variance: Tensor<Double>, rows: Double) {
    guard rows > 0 else { return }
    // The variance of one row is 0 either way.
    let unbiased = rows / max(rows - 1, 1)
    for j in 0..<width {
      seen[j] += rows * mean[j]
      seen[width + j] += rows * variance[j] * unbiased
    }
    rowsSeen += rows
  }

  /// Moves the running statistics towards the mean, weighted by rows, of those of the batches since the last move.
  func move() {
    guard rowsSeen > 0 else { return }
    let (mean, variance) = (runningMean.value, runningVariance.value)
    for j in 0..<width {
      mean[j] = Double(S(mean[j] + Self.momentum * (seen[j] / rowsSeen - mean[j])))
      variance[j] = Double(S(variance[j] + Self.momentum * (seen[width + j] / rowsSeen - variance[j])))
    }
    batches.value[0] += 1
    drop()
  }

  /// Drops the statistics of the batches since the last move.
  func drop() {
    fill(seen, 0)
    rowsSeen = 0
  }

  /// Adds to the gradients of weight and bias and writes dz, which may be dy.
  ///
  /// With ẑ = (z − μ)·r, h the part of dy (and of what the mask adds to it) that passes the mask, and N rows on all
  /// ranks: dz = weight · r (h − Σh/N − ẑ Σ(h ẑ)/N) if the statistics are those of the batch, and weight · r h if not;
  /// dweight += Σ h ẑ and dbias += Σ h, two sums over this rank's rows alone.
  func backward(
    _ dy: MatrixOperand<S>, z: MatrixOperand<S>, mask: BatchNormMask<S>, activations: Activations, dz: MatrixOperand<S>,
    statistics: BatchStatistics<S>
  ) {
    let (vectors, reciprocal) = (vectors(activations), activations.vectors(width).reciprocal)
    let both = sums.tensor(Shape(2, width))
    let (sum, along) = (both.rows(0..<1), both.rows(1..<2))
    batchNormBackwardSums(dy, z: z, mask: mask, vectors, sum: sum, along: along)
    let (dweight, dbias) = (weight.gradient, bias.gradient)
    for j in 0..<width {
      dweight[j] += S(along[j] * Double(reciprocal[j]))
      dbias[j] += S(sum[j])
    }
    if statistics.ranks != nil, !isFrozen {
      exchange(statistics) { numbers in
        for j in 0..<2 * width { numbers.append(both[j]) }
      }
      for j in 0..<2 * width { both[j] = exchanged[j] }
    }
    // The mean and the slope of h, from the sums.
    let shares = slopes.tensor(Shape(2, width))
    let (offset, slope) = (shares.rows(0..<1), shares.rows(1..<2))
    let share = activations.rows > 0 ? 1 / activations.rows : 0
    for j in 0..<width {
      offset[j] = S(sum[j] * share)
      slope[j] = S(along[j] * share * Double(reciprocal[j]) * Double(reciprocal[j]))
    }
    let recomputed = if case .recomputed = mask { true } else { false }
    batchNormBackward(dy, z: z, recomputed: recomputed, vectors, offset: offset, slope: slope, into: dz)
  }
}
