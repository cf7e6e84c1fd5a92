/// The function between the two linear maps of an MLP.
public enum Activation: String, Sendable, Codable {
  /// x Φ(x), by the error function and not its tanh approximation (Hendrycks, Gimpel: Gaussian Error Linear Units).
  case gelu
  /// x σ(1.702 x), which OpenAI's weights and some of LAION's require.
  case quickGELU = "quick_gelu"
}

/// y = f(h + bias) for h, y [n, w] of one precision and a bias [w]; with `differentiating`, which changes no bit of y,
/// h then holds f'(h + bias), which is all that backward needs. One pass replaces three: the bias is added here and not
/// by the preceding product, and value and derivative share their exponential.
@specialized(where S == Float) @specialized(where S == Double)
public func biasActivation<S: Scalar>(
  _ h: MatrixOperand<S>, bias: Tensor<S>, _ activation: Activation, into y: MatrixOperand<S>,
  differentiating: Bool = true
) {
  precondition(bias.count == h.columns && y.shape.count == h.shape.count, "activation of \(h.shape) into \(y.shape)")
  let n = h.rows
  switch (activation, h) {
  case (.gelu, .fp32): activate(GELU.self, FP32Elements(h), n, bias, into: FP32Elements(y), differentiating)
  case (.gelu, .bf16): activate(GELU.self, BFloat16Elements(h), n, bias, into: BFloat16Elements(y), differentiating)
  case (.quickGELU, .fp32): activate(QuickGELU.self, FP32Elements(h), n, bias, into: FP32Elements(y), differentiating)
  case (.quickGELU, .bf16):
    activate(QuickGELU.self, BFloat16Elements(h), n, bias, into: BFloat16Elements(y), differentiating)
  }
}

/// Computes f(x) and f'(x).
private protocol ActivationFunction {
  static func values<S: Scalar>(_ x: S) -> (value: S, derivative: S)
}

private enum GELU: ActivationFunction {
  @inline(__always) static func values<S: Scalar>(_ x: S) -> (value: S, derivative: S) {
    let (cumulative, density) = S.gaussian(x)
    return (x * cumulative, cumulative.addingProduct(x, density))
  }
}

private enum QuickGELU: ActivationFunction {
  @inline(__always) static func values<S: Scalar>(_ x: S) -> (value: S, derivative: S) {
    let slope = S(1.702)
    let sigmoid = 1 / (1 + S.exponential(-slope * x))
    return (x * sigmoid, sigmoid * (1 + slope * x * (1 - sigmoid)))
  }
}

@inline(__always)
private func activate<E: Elements, Function: ActivationFunction>(
  _: Function.Type, _ h: E, _ n: Int, _ bias: Tensor<E.Number>, into y: E, _ differentiating: Bool
) {
  let (w, b) = (bias.count, bias.pointer)
  Threads.forEach(n, grain: 16) { i in
    let (source, target) = (h.advanced(by: i * w), y.advanced(by: i * w))
    if differentiating {
      for j in 0..<w { (target[j], source[j]) = Function.values(source[j] + b[j]) }
    } else {
      for j in 0..<w { target[j] = Function.values(source[j] + b[j]).value }
    }
  }
}

/// dy ← dy · derivative, in place, and dbias += Σ_i dy[i, :], for dy, derivative [n, w] of one precision and dbias [w].
@specialized(where S == Float) @specialized(where S == Double)
public func biasActivationBackward<S: Scalar>(_ dy: MatrixOperand<S>, derivative: MatrixOperand<S>, dbias: Tensor<S>) {
  precondition(
    derivative.shape.count == dy.shape.count && dbias.count == dy.columns,
    "\(dy.shape), \(derivative.shape), \(dbias.shape)")
  switch dy {
  case .fp32: timesDerivative(FP32Elements(dy), FP32Elements(derivative), dy.rows, dbias)
  case .bf16: timesDerivative(BFloat16Elements(dy), BFloat16Elements(derivative), dy.rows, dbias)
  }
}

@inline(__always)
private func timesDerivative<E: Elements>(_ dy: E, _ derivative: E, _ n: Int, _ dbias: Tensor<E.Number>) {
  let (w, sums) = (dbias.count, dbias.pointer)
  Threads.split(w, grain: 64) { _, columns in
    for i in 0..<n {
      let (row, slope) = (dy.advanced(by: i * w), derivative.advanced(by: i * w))
      for j in columns {
        let value = row[j] * slope[j]
        row[j] = value
        sums[j] += value
      }
    }
  }
}
