public import Tensor

/// Layer norm over the last axis, ε = 1e-5, weight and bias of that width; starts as the identity's scale and shift.
///
/// In a tower that is being pruned it is the norm over the surviving columns; the others come out as 0.
public struct LayerNorm<S: Scalar> {
  public let weight: Parameter<S>
  public let bias: Parameter<S>
  private let survivors: Survivors<S>?

  /// What backward needs beside the input: mean and 1/√(σ² + ε) of each row.
  public final class Saved {
    let statistics = Buffer<S>()
    public init() {}

    func rows(_ n: Int) -> (mean: Tensor<S>, reciprocal: Tensor<S>) {
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

  public func forward(_ x: Tensor<S>, into y: Operand<S>, saved: Saved) {
    let (mean, reciprocal) = saved.rows(x.rows)
    guard let survivors, let units = survivors.units else {
      layerNorm(x, weight: weight.value, bias: bias.value, into: y, mean: mean, reciprocal: reciprocal)
      return
    }
    let exact =
      switch y {
      case .exact(let y): y
      case .rounded(let y): survivors.narrow.whole.tensor(y.shape)
      }
    if units.isEmpty {
      fill(exact, 0)
    } else {
      let (narrow, affine) = gather(x, units, survivors.narrow)
      let out = survivors.narrow.y.tensor(narrow.shape)
      layerNorm(
        narrow, weight: affine.rows(0..<1), bias: affine.rows(1..<2), into: .exact(out), mean: mean,
        reciprocal: reciprocal)
      scatterColumns(out, units, into: exact)
    }
    if case .rounded(let y) = y { round(exact, into: y) }
  }

  public func forward(_ x: Tensor<S>, into y: Tensor<S>, saved: Saved) { forward(x, into: .exact(y), saved: saved) }

  /// Adds to dx and to the gradients of weight and bias.
  public func backward(_ dy: Tensor<S>, x: Tensor<S>, saved: Saved, dx: Tensor<S>) {
    let (mean, reciprocal) = saved.rows(x.rows)
    guard let survivors, let units = survivors.units else {
      layerNormBackward(
        dy, x: x, weight: weight.value, mean: mean, reciprocal: reciprocal, dx: dx, dweight: weight.gradient,
        dbias: bias.gradient)
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
      slope, x: narrow, weight: affine.rows(0..<1), mean: mean, reciprocal: reciprocal, dx: dnarrow,
      dweight: daffine.rows(0..<1), dbias: daffine.rows(1..<2))
    addColumns(dnarrow, units, to: dx)
    addColumns(daffine.rows(0..<1), units, to: weight.gradient)
    addColumns(daffine.rows(1..<2), units, to: bias.gradient)
  }

  /// The surviving columns of x, and of weight and bias as two rows.
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
