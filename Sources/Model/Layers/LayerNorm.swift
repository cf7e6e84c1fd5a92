public import Tensor

/// Layer norm over the last axis, of width w: y = (x − μ)/√(σ² + ε) · weight + bias, ε = 1e-5 (Ba, Kiros, Hinton: Layer
/// Normalization, 2016). In a tower that is being pruned it is over the surviving columns; the others of y are 0.
public struct LayerNorm<S: Scalar> {
  public let weight: Parameter<S>
  public let bias: Parameter<S>
  private let survivors: Survivors<S>?
  var extents: [Range<Int>] { [weight.extent, bias.extent] }

  /// Backward needs, besides the input, mean and 1/√(σ² + ε) of each row.
  public final class Activations {
    private let statistics = Buffer<S>()

    fileprivate func rows(_ n: Int) -> RowStatistics<S> {
      let both = statistics.tensor(Shape(2, n))
      return (both.rows(0..<1), both.rows(1..<2))
    }
  }

  init(_ store: ParameterStore<S>, name: String, width: Int, survivors: Survivors<S>? = nil) {
    weight = store.declare("\(name).weight", Shape(width), .ones)
    bias = store.declare("\(name).bias", Shape(width), .zeros)
    self.survivors = survivors
  }

  /// x [n, w] → y [n, w].
  public func forward(_ x: Tensor<S>, into y: MatrixOperand<S>, activations: Activations) {
    let statistics = activations.rows(x.rows)
    guard let survivors, let units = survivors.units else {
      return layerNorm(x, weight: weight.value, bias: bias.value, into: y, statistics: statistics)
    }
    let exact: Tensor<S> = if case .fp32(let y) = y { y } else { survivors.whole.tensor(y.shape) }
    if units.isEmpty {
      fill(exact, 0)
    } else {
      let (narrow, affine) = gather(x, units, survivors)
      let out = survivors.y.tensor(narrow.shape)
      layerNorm(narrow, weight: affine.rows(0..<1), bias: affine.rows(1..<2), into: .fp32(out), statistics: statistics)
      fill(exact, 0)
      addColumns(out, units, to: exact)
    }
    if case .bf16(let y) = y { round(exact, into: y) }
  }

  /// Adds to dx and to the gradients of weight and bias.
  public func backward(_ dy: Tensor<S>, x: Tensor<S>, activations: Activations, dx: Tensor<S>) {
    let statistics = activations.rows(x.rows)
    guard let survivors, let units = survivors.units else {
      return layerNormBackward(
        dy, x: x, weight: weight.value, statistics: statistics, dx: dx, dweight: weight.gradient, dbias: bias.gradient)
    }
    guard !units.isEmpty else { return }
    let (narrow, affine) = gather(x, units, survivors)
    let slope = survivors.y.tensor(narrow.shape)
    gatherColumns(dy, units, into: slope)
    let (dnarrow, daffine) = (survivors.dx.tensor(narrow.shape), survivors.daffine.tensor(affine.shape))
    fill(dnarrow, 0)
    fill(daffine, 0)
    layerNormBackward(
      slope, x: narrow, weight: affine.rows(0..<1), statistics: statistics, dx: dnarrow, dweight: daffine.rows(0..<1),
      dbias: daffine.rows(1..<2))
    addColumns(dnarrow, units, to: dx)
    addColumns(daffine.rows(0..<1), units, to: weight.gradient)
    addColumns(daffine.rows(1..<2), units, to: bias.gradient)
  }

  private func gather(_ x: Tensor<S>, _ units: [Int], _ scratch: Survivors<S>) -> (x: Tensor<S>, affine: Tensor<S>) {
    let columns = scratch.x.tensor(Shape(x.rows, units.count))
    let affine = scratch.affine.tensor(Shape(2, units.count))
    gatherColumns(x, units, into: columns)
    gatherColumns(weight.value, units, into: affine.rows(0..<1))
    gatherColumns(bias.value, units, into: affine.rows(1..<2))
    return (columns, affine)
  }
}

/// The hidden units of a tower that a pruning mask keeps: the columns that its layer norms look at. A masked unit is 0
/// in every row, and must not count in mean and variance, because the model that is cut out later does not have it.
final class Survivors<S: Scalar> {
  /// The kept units, ascending; nil keeps all and leaves layer norms unchanged.
  var units: [Int]?
  // Scratch for the surviving columns, side by side, and for all columns before they are rounded.
  fileprivate let (x, y, dx, whole) = (Buffer<S>(), Buffer<S>(), Buffer<S>(), Buffer<S>())
  fileprivate let (affine, daffine) = (Buffer<S>(), Buffer<S>())
}
