public import Tensor

/// Sums over all ranks for batch norms. A forward does not throw: `check` throws the error of a collective later.
final class BatchStatistics<S: Scalar> {
  var ranks: (any Ranks<S>)?
  /// The numbers that `sum` adds up, in memory that all norms and steps share.
  var numbers: [Double] = []
  private var failure: (any Error)?

  func sum() {
    guard let ranks, failure == nil else { return }
    do { try ranks.allReduce(&numbers) } catch { failure = error }
  }

  func check() throws { if let failure { throw failure } }
}

/// Batch norm over all points of all images, followed by the sum with a shortcut and a ReLU: y = f((z − μ)/√(σ² + ε) ·
/// weight + bias + residual), ε = 1e-5 (Ioffe, Szegedy: Batch Normalization, 2015). In training, μ and σ² (biased) are
/// those of the batch, on this rank or on all; in evaluation, and if the layer is frozen, they are the running ones.
/// Once a step these move a tenth of the way to those of the step's batches, the variance to the unbiased one.
public final class BatchNorm<S: Scalar> {
  public let weight: Parameter<S>
  public let bias: Parameter<S>
  public let runningMean: ModelBuffer<S>
  public let runningVariance: ModelBuffer<S>
  /// The number of times that the running statistics have moved.
  public let batches: ModelBuffer<S>
  /// True if it uses the running statistics in training too, and leaves them as they are.
  var isFrozen = false
  private let width: Int
  private let statistics: BatchStatistics<S>
  /// For each column the mean and the sum of squares; in backward the two sums.
  private let sums = Buffer<Double>()
  private let slopes = Buffer<S>()
  /// The rows since the statistics were last moved, and sums over them of their batches' means and unbiased variances.
  private var rowsSeen = 0.0
  private let seen: Tensor<Double>

  /// Backward needs, besides z, mean, scale and 1/√(σ² + ε) of each column, and the number of rows behind them.
  final class Activations {
    fileprivate let columns = Buffer<S>()
    fileprivate var rows = 0.0
  }

  init(
    _ store: ParameterStore<S>, name: String, width: Int, weight: Initial = .ones,
    statistics: BatchStatistics<S> = BatchStatistics()
  ) {
    (self.width, self.statistics) = (width, statistics)
    self.weight = store.declare("\(name).weight", Shape(width), weight)
    bias = store.declare("\(name).bias", Shape(width), .zeros)
    runningMean = store.declareBuffer("\(name).running_mean", Shape(width), initial: 0)
    runningVariance = store.declareBuffer("\(name).running_var", Shape(width), initial: 1)
    batches = store.declareBuffer("\(name).num_batches_tracked", Shape(), initial: 0, isCount: true)
    seen = Tensor(Shape(2, width))
  }

  /// True if the statistics are the running ones, whatever the batch.
  func usesRunning(_ mode: ForwardMode) -> Bool { mode == .evaluation || isFrozen }

  /// z [n, width] → y [n, width], which may be z.
  func forward(
    _ z: MatrixOperand<S>, adding residual: MatrixOperand<S>? = nil, relu: Bool, into y: MatrixOperand<S>,
    mode: ForwardMode, activations: Activations
  ) {
    batchNorm(z, vectors(of: z, mode: mode, activations: activations), adding: residual, relu: relu, into: y)
  }

  /// Returns the vectors of a forward of z, whose numbers matter only if the statistics are the batch's.
  func vectors(of z: MatrixOperand<S>, mode: ForwardMode, activations: Activations) -> BatchNormVectors<S> {
    let (mean, scale, reciprocal, vectors) = columns(activations)
    let moments = sums.tensor(Shape(2, width))
    let (mu, variance) = (moments.rows(0..<1), moments.rows(1..<2))
    if usesRunning(mode) {
      // They do not depend on the batch, so no row has a share in them.
      activations.rows = 0
      copy(runningMean.value, into: mu)
      copy(runningVariance.value, into: variance)
    } else {
      let rows = batchMoments(of: z, mu, variance)
      activations.rows = rows
      if mode == .training, rows > 0 {
        // The variance of one row is 0 either way.
        let unbiased = rows / max(rows - 1, 1)
        for j in 0..<width {
          seen[j] += rows * mu[j]
          seen[width + j] += rows * variance[j] * unbiased
        }
        rowsSeen += rows
      }
    }
    for j in 0..<width {
      let inverse = 1 / (variance[j] + 1e-5).squareRoot()
      mean[j] = S(mu[j])
      reciprocal[j] = S(inverse)
      scale[j] = S(Double(weight.value[j]) * inverse)
    }
    return vectors
  }

  /// Returns the mean, scale and 1/√(σ² + ε) of each column, and the former two with the bias.
  private func columns(_ kept: Activations) -> (Tensor<S>, Tensor<S>, Tensor<S>, BatchNormVectors<S>) {
    let all = kept.columns.tensor(Shape(3, width))
    let (mean, scale) = (all.rows(0..<1), all.rows(1..<2))
    return (mean, scale, all.rows(2..<3), BatchNormVectors(mean: mean, scale: scale, bias: bias.value))
  }

  /// y = ReLU(batchNorm(z)) once more, with the statistics in `activations`, which are not counted again.
  func again(_ z: MatrixOperand<S>, into y: MatrixOperand<S>, activations: Activations) {
    batchNorm(z, columns(activations).3, relu: true, into: y)
  }

  /// Writes mean and biased variance of every column over the rows of all ranks, or of this one; returns their number.
  private func batchMoments(of z: MatrixOperand<S>, _ mean: Tensor<Double>, _ variance: Tensor<Double>) -> Double {
    columnMoments(z, mean: mean, squares: variance)
    var rows = Double(z.rows)
    if statistics.ranks != nil {
      statistics.numbers.removeAll(keepingCapacity: true)
      statistics.numbers.append(rows)
      for j in 0..<width { statistics.numbers.append(rows * mean[j]) }
      for j in 0..<width { statistics.numbers.append(variance[j] + rows * mean[j] * mean[j]) }
      statistics.sum()
      rows = statistics.numbers[0]
      for j in 0..<width {
        mean[j] = rows > 0 ? statistics.numbers[1 + j] / rows : 0
        variance[j] = max(statistics.numbers[1 + width + j] - rows * mean[j] * mean[j], 0)
      }
    }
    for j in 0..<width { variance[j] = rows > 0 ? variance[j] / rows : 0 }
    return rows
  }

  /// Moves the running statistics towards the mean, weighted by rows, of those of the batches since the last move.
  func move() {
    guard rowsSeen > 0 else { return }
    let (mean, variance, momentum) = (runningMean.value, runningVariance.value, 0.1)
    for j in 0..<width {
      mean[j] = Double(S(mean[j] + momentum * (seen[j] / rowsSeen - mean[j])))
      variance[j] = Double(S(variance[j] + momentum * (seen[width + j] / rowsSeen - variance[j])))
    }
    batches.value[0] += 1
    drop()
  }

  func drop() {
    fill(seen, 0)
    rowsSeen = 0
  }

  /// Adds to the gradients of weight and bias and writes dz, which may be dy. With ẑ = (z − μ)·r, h the part of dy (and
  /// of what the mask adds) that passes the mask, and N rows on all ranks: dz = weight · r (h − Σh/N − ẑ Σ(h ẑ)/N) if
  /// the statistics are those of the batch, else weight · r h; dweight += Σ h ẑ, dbias += Σ h over this rank's rows.
  func backward(
    _ dy: MatrixOperand<S>, z: MatrixOperand<S>, mask: BatchNormMask<S>, activations: Activations, dz: MatrixOperand<S>
  ) {
    let (_, _, reciprocal, vectors) = columns(activations)
    let both = sums.tensor(Shape(2, width))
    let (sum, along) = (both.rows(0..<1), both.rows(1..<2))
    batchNormBackwardSums(dy, z: z, mask: mask, vectors, sum: sum, along: along)
    let (dweight, dbias) = (weight.gradient, bias.gradient)
    for j in 0..<width {
      dweight[j] += S(along[j] * Double(reciprocal[j]))
      dbias[j] += S(sum[j])
    }
    if statistics.ranks != nil, !isFrozen {
      statistics.numbers.removeAll(keepingCapacity: true)
      for j in 0..<both.count { statistics.numbers.append(both[j]) }
      statistics.sum()
      for j in 0..<both.count { both[j] = statistics.numbers[j] }
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
