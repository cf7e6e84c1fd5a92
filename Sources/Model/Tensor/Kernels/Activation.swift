/// The function between the two linear maps of an MLP.
public enum Activation: String, Sendable, Codable {
  /// x Φ(x), by the error function and not its tanh approximation (Hendrycks, Gimpel: Gaussian Error Linear Units).
  case gelu
  /// x σ(1.702 x), which OpenAI's weights and some of LAION's require.
  case quickGELU = "quick_gelu"
}

/// y = f(h + bias) for h, y [n, w] of one precision and a bias [w]; on return h holds f'(h + bias), which is all that
/// backward needs.
///
/// One pass replaces three: the bias is added here and not by the preceding product, and value and derivative share
/// their exponential.
public func biasActivation<S: Scalar>(
  _ h: MatrixOperand<S>, bias: Tensor<S>, _ activation: Activation, into y: MatrixOperand<S>
) {
  activate(h, bias: bias, activation, into: y, differentiating: true)
}

/// y = f(h + bias), the same bits that `biasActivation` writes; h is left as it is.
public func activate<S: Scalar>(
  _ h: MatrixOperand<S>, bias: Tensor<S>, _ activation: Activation, into y: MatrixOperand<S>
) {
  activate(h, bias: bias, activation, into: y, differentiating: false)
}

@specialized(where S == Float) @specialized(where S == Double)
private func activate<S: Scalar>(
  _ h: MatrixOperand<S>, bias: Tensor<S>, _ activation: Activation, into y: MatrixOperand<S>, differentiating: Bool
) {
  precondition(
    bias.count == h.columns && y.shape.count == h.shape.count, "activation of \(h.shape) into \(y.shape)")
  let (n, w, b) = (h.rows, h.columns, bias.pointer)
  switch (activation, h, y) {
  case (.gelu, .fp32(let h), .fp32(let y)):
    gelu(FP32Elements(h), rows: n, columns: w, b, into: FP32Elements(y), differentiating)
  case (.gelu, .bf16(let h), .bf16(let y)):
    gelu(BFloat16Elements(h), rows: n, columns: w, b, into: BFloat16Elements(y), differentiating)
  case (.quickGELU, .fp32(let h), .fp32(let y)):
    quickGELU(FP32Elements(h), rows: n, columns: w, b, into: FP32Elements(y), differentiating)
  case (.quickGELU, .bf16(let h), .bf16(let y)):
    quickGELU(BFloat16Elements(h), rows: n, columns: w, b, into: BFloat16Elements(y), differentiating)
  default: preconditionFailure("an fp32 and a bf16 matrix: \(h.shape), \(y.shape)")
  }
}

@inline(__always)
private func gelu<E: Elements>(
  _ h: E, rows n: Int, columns w: Int, _ b: UnsafeMutablePointer<E.Number>, into y: E, _ differentiating: Bool
) {
  Threads.split(n, grain: 16) { _, rows in
    for i in rows {
      let (source, target) = (h.advanced(by: i * w), y.advanced(by: i * w))
      if differentiating {
        for j in 0..<w {
          let x = source[j] + b[j]
          let (cumulative, density) = E.Number.gaussian(x)
          target[j] = x * cumulative
          source[j] = cumulative.addingProduct(x, density)
        }
      } else {
        for j in 0..<w {
          let x = source[j] + b[j]
          target[j] = x * E.Number.gaussian(x).cumulative
        }
      }
    }
  }
}

@inline(__always)
private func quickGELU<E: Elements>(
  _ h: E, rows n: Int, columns w: Int, _ b: UnsafeMutablePointer<E.Number>, into y: E, _ differentiating: Bool
) {
  let slope = E.Number(1.702)
  Threads.split(n, grain: 16) { _, rows in
    for i in rows {
      let (source, target) = (h.advanced(by: i * w), y.advanced(by: i * w))
      if differentiating {
        for j in 0..<w {
          let x = source[j] + b[j]
          let sigmoid = 1 / (1 + E.Number.exponential(-slope * x))
          target[j] = x * sigmoid
          source[j] = sigmoid * (1 + slope * x * (1 - sigmoid))
        }
      } else {
        for j in 0..<w {
          let x = source[j] + b[j]
          target[j] = x * (1 / (1 + E.Number.exponential(-slope * x)))
        }
      }
    }
  }
}

/// dy ← dy · derivative, in place, and dbias += Σ_i dy[i, :], for dy, derivative [n, w] of one precision and dbias [w].
@specialized(where S == Float) @specialized(where S == Double)
public func biasActivationBackward<S: Scalar>(_ dy: MatrixOperand<S>, derivative: MatrixOperand<S>, dbias: Tensor<S>) {
  let (n, w, sums) = (dy.rows, dy.columns, dbias.pointer)
  precondition(
    derivative.shape.count == dy.shape.count && dbias.count == w, "\(dy.shape), \(derivative.shape), \(dbias.shape)")
  switch (dy, derivative) {
  case (.fp32(let dy), .fp32(let f)): timesDerivative(FP32Elements(dy), FP32Elements(f), rows: n, columns: w, sums)
  case (.bf16(let dy), .bf16(let f)):
    timesDerivative(BFloat16Elements(dy), BFloat16Elements(f), rows: n, columns: w, sums)
  default: preconditionFailure("an fp32 and a bf16 matrix: \(dy.shape), \(derivative.shape)")
  }
}

@inline(__always)
private func timesDerivative<E: Elements>(
  _ dy: E, _ derivative: E, rows n: Int, columns w: Int, _ sums: UnsafeMutablePointer<E.Number>
) {
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
