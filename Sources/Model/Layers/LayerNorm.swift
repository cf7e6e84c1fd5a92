public import Tensor

/// Layer norm over the last axis, of width w: y = (x − μ)/√(σ² + ε) · weight + bias, ε = 1e-5 (Ba, Kiros, Hinton: Layer
/// Normalization, 2016). The weight starts as ones and the bias as zeros.
///
/// In a tower that is being pruned the norm is over the surviving columns; the others of y are 0.
public struct LayerNorm<S: Scalar> {
  public let weight: Parameter<S>
  public let bias: Parameter<S>
  private let survivors: Survivors<S>?

  /// Backward needs, besides the input, mean and 1/√(σ² + ε) of each row.
  public final class Activations {
    let statistics = Buffer<S>()
    public init() {}

    func rows(_ n: Int) -> RowStatistics<S> {
      let both = statistics.tensor(Shape(2, n))
      return (both.rows(0..<1), both.rows(1..<2))
    }
  }

  var extents: [Range<Int>] { [weight.extent, bias.extent] }

  public init(_ store: ParameterStore<S>, name: String, width: Int) {
    self.init(store, name: name, width: width, survivors: nil)
  }

  init(_ store: ParameterStore<S>, name: String, width: Int, survivors: Survivors<S>?) {
    weight = store.declare("\(name).weight", Shape(width), .ones)
    bias = store.declare("\(name).bias", Shape(width), .zeros)
    self.survivors = survivors
  }

  /// x [n, w] → y [n, w].
  public func forward(_ x: Tensor<S>, into y: MatrixOperand<S>, activations: Activations) {
    let statistics = activations.rows(x.rows)
    guard let survivors, let units = survivors.units else {
      layerNorm(x, weight: weight.value, bias: bias.value, into: y, statistics: statistics)
      return
    }
    let exact =
      switch y {
      case .fp32(let y): y
      case .bf16(let y): survivors.narrow.whole.tensor(y.shape)
      }
    if units.isEmpty {
      fill(exact, 0)
    } else {
      let (narrow, affine) = gather(x, units, survivors.narrow)
      let out = survivors.narrow.y.tensor(narrow.shape)
      layerNorm(
        narrow, weight: affine.rows(0..<1), bias: affine.rows(1..<2), into: .fp32(out), statistics: statistics)
      scatterColumns(out, units, into: exact)
    }
    if case .bf16(let y) = y { round(exact, into: y) }
  }

  public func forward(_ x: Tensor<S>, into y: Tensor<S>, activations: Activations) {
    forward(x, into: .fp32(y), activations: activations)
  }

  /// Adds to dx and to the gradients of weight and bias.
  public func backward(_ dy: Tensor<S>, x: Tensor<S>, activations: Activations, dx: Tensor<S>) {
    let statistics = activations.rows(x.rows)
    guard let survivors, let units = survivors.units else {
      layerNormBackward(
        dy, x: x, weight: weight.value, statistics: statistics, dx: dx, dweight: weight.gradient, dbias: bias.gradient)
      return
    }
    guard !units.isEmpty else { return }
    let (narrow, affine) = gather(x, units, survivors.narrow)
    let slope = survivors.narrow.y.tensor(narrow.shape)
    gatherColumns(dy, units, into: slope)
    let dnarrow = survivors.narrow.dx.tensor(narrow.shape)
    let daffine = survivors.narrow.daffine.tensor(affine.shape)
    fill(dnarrow, 0)
    fill(daffine, 0)
    layerNormBackward(
      slope, x: narrow, weight: affine.rows(0..<1), statistics: statistics, dx: dnarrow, dweight: daffine.rows(0..<1),
      dbias: daffine.rows(1..<2))
    addColumns(dnarrow, units, to: dx)
    addColumns(daffine.rows(0..<1), units, to: weight.gradient)
    addColumns(daffine.rows(1..<2), units, to: bias.gradient)
  }

  /// Gathers the surviving columns of x, and of weight and bias as two rows.
  private func gather(
    _ x: Tensor<S>, _ units: [Int], _ narrow: Survivors<S>.Narrow
  ) -> (x: Tensor<S>, affine: Tensor<S>) {
    let columns = narrow.x.tensor(Shape(x.rows, units.count))
    let affine = narrow.affine.tensor(Shape(2, units.count))
    gatherColumns(x, units, into: columns)
    gatherColumns(weight.value, units, into: affine.rows(0..<1))
    gatherColumns(bias.value, units, into: affine.rows(1..<2))
    return (columns, affine)
  }
}

/// The hidden units of a tower that a pruning mask keeps: the columns that the tower's layer norms look at.
///
/// A unit that is masked is 0 in every row, and would still count in a row's mean and variance. The model that is cut
/// out later does not have it, so it must not count.
final class Survivors<S: Scalar> {
  /// The kept units, ascending; nil keeps all and leaves layer norms unchanged.
  var units: [Int]?

  /// Scratch for the surviving columns, side by side.
  struct Narrow {
    let x = Buffer<S>()
    let y = Buffer<S>()
    /// All columns again, before they are rounded.
    let whole = Buffer<S>()
    let dx = Buffer<S>()
    let affine = Buffer<S>()
    let daffine = Buffer<S>()
  }
  let narrow = Narrow()
}
