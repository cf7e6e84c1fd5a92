public import Tensor

/// The way of batch norm to the other ranks, where statistics are of all of them together.
///
/// A forward does not throw: what a collective throws is kept, and thrown when the statistics are moved.
final class BatchStatistics<S: Scalar> {
  var ranks: (any Ranks<S>)?
  private var failure: (any Error)?

  /// Each number ← its sum over the ranks.
  func sum(_ numbers: inout [Double]) {
    guard let ranks, failure == nil else { return }
    do { try ranks.allReduce(&numbers) } catch { failure = error }
  }

  func check() throws {
    if let failure { throw failure }
  }
}

/// Batch norm over all points of all pictures, with ReLU and the sum with a shortcut: y = f((z − μ)/√(σ² + ε) · weight
/// + bias + residual), ε = 1e-5.
///
/// To train, μ and σ² (biased) are the batch's, of this rank or of all; otherwise, and where it is frozen, the running
/// ones. Running statistics move by a tenth of the way once a step, the variance towards the unbiased one.
public final class BatchNorm<S: Scalar> {
  public let weight: Parameter<S>
  public let bias: Parameter<S>
  public let runningMean: ModelBuffer<S>
  public let runningVariance: ModelBuffer<S>
  /// How often the running statistics have moved.
  public let batches: ModelBuffer<S>

  static var epsilon: Double { 1e-5 }
  static var momentum: Double { 0.1 }

  /// Takes the running statistics to train, too, and leaves them as they are.
  var isFrozen = false

  private let width: Int
  /// Per column: mean and sum of squares; in backward the two sums.
  private let sums = Buffer<Double>()
  private var exchanged: [Double] = []
  /// Since the statistics were moved: rows seen, and sums over them of their batches' mean and unbiased variance.
  private var rowsSeen = 0.0
  private let seen: Tensor<Double>

  /// What backward needs beside z: mean, scale and 1/√(σ² + ε) of each column, and the number of rows behind them.
  final class Saved {
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

  /// z [n, width] → y, which may be z.
  func forward(
    _ z: Operand<S>, adding residual: Operand<S>? = nil, relu: Bool, into y: Operand<S>, mode: ForwardMode,
    saved: Saved, statistics: BatchStatistics<S>
  ) {
    let (mean, scale, reciprocal) = saved.vectors(width)
    let moments = sums.tensor(Shape(2, width))
    let (mu, variance) = (moments.rows(0..<1), moments.rows(1..<2))
    if mode == .evaluation || isFrozen {
      // Not of the batch: no row has a share in them.
      saved.rows = 0
      copy(runningMean.value, into: mu)
      copy(runningVariance.value, into: variance)
    } else {
      saved.rows = batchMoments(of: z, mu, variance, statistics)
      if mode == .training { remember(mu, variance, rows: saved.rows) }
    }
    for j in 0..<width {
      let inverse = 1 / (variance[j] + Self.epsilon).squareRoot()
      mean[j] = S(mu[j])
      reciprocal[j] = S(inverse)
      scale[j] = S(Double(weight.value[j]) * inverse)
    }
    batchNorm(z, mean: mean, scale: scale, bias: bias.value, adding: residual, relu: relu, into: y)
  }

  /// y = ReLU(batchNorm(z)) once more: `saved` has the batch's statistics, which are not counted again.
  func again(_ z: Operand<S>, into y: Operand<S>, saved: Saved) {
    let (mean, scale, _) = saved.vectors(width)
    batchNorm(z, mean: mean, scale: scale, bias: bias.value, adding: nil, relu: true, into: y)
  }

  /// Mean and biased variance of every column over the rows of all ranks, or of this one; returns how many rows those
  /// are.
  private func batchMoments(
    of z: Operand<S>, _ mean: Tensor<Double>, _ variance: Tensor<Double>, _ statistics: BatchStatistics<S>
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

  /// Moves the running statistics towards the mean, by rows, of those of the batches trained on since the last time.
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

  /// Forgets the batches since the last move.
  func drop() {
    fill(seen, 0)
    rowsSeen = 0
  }

  /// Adds to the gradients of weight and bias; writes dz, which may be dy.
  ///
  /// With ẑ = (z − μ)·r, h the part of dy (and of what the mask adds to it) that passes the mask, and N rows of all
  /// ranks: dz = weight · r (h − Σh/N − ẑ Σ(h ẑ)/N), where the statistics are the batch's, and weight · r h where they
  /// are not; dweight += Σ h ẑ, dbias += Σ h, where these two are of this rank's rows alone.
  func backward(
    _ dy: Operand<S>, z: Operand<S>, mask: BatchNormMask<S>, saved: Saved, dz: Operand<S>,
    statistics: BatchStatistics<S>
  ) {
    let (mean, scale, reciprocal) = saved.vectors(width)
    let both = sums.tensor(Shape(2, width))
    let (sum, along) = (both.rows(0..<1), both.rows(1..<2))
    batchNormBackwardSums(
      dy, z: z, mask: mask, mean: mean, scale: scale, bias: bias.value, sum: sum, along: along)
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
    // Mean and slope of what comes back take the place of the sums.
    let shares = slopes.tensor(Shape(2, width))
    let (offset, slope) = (shares.rows(0..<1), shares.rows(1..<2))
    let share = saved.rows > 0 ? 1 / saved.rows : 0
    for j in 0..<width {
      offset[j] = S(sum[j] * share)
      slope[j] = S(along[j] * share * Double(reciprocal[j]) * Double(reciprocal[j]))
    }
    let recomputed = if case .recomputed = mask { true } else { false }
    batchNormBackward(
      dy, z: z, recomputed: recomputed, mean: mean, scale: scale, bias: bias.value, offset: offset, slope: slope,
      into: dz)
  }

  private let slopes = Buffer<S>()
}
