/// What stands between the two linear maps of an MLP.
public enum Activation: String, Sendable, Codable {
  /// x Φ(x), with the error function and not its tanh approximation.
  case gelu
  /// x σ(1.702 x), as OpenAI's weights and some of LAION's want it.
  case quickGELU = "quick_gelu"
}

/// y = f(h + bias); on return h holds f'(h + bias), which is all that backward needs. Both are exact or both rounded.
///
/// One pass in place of three: the bias is added here and not by the product before, and value and derivative share
/// their exponential.
public func biasActivation<S: Scalar>(
  _ h: Operand<S>, bias: Tensor<S>, _ activation: Activation, into y: Operand<S>
) {
  activate(h, bias: bias, activation, into: y, differentiating: true)
}

/// y = f(h + bias), to the bit what `biasActivation` writes; h stays.
public func activate<S: Scalar>(
  _ h: Operand<S>, bias: Tensor<S>, _ activation: Activation, into y: Operand<S>
) {
  activate(h, bias: bias, activation, into: y, differentiating: false)
}

@specialized(where S == Float)
@specialized(where S == Double)
private func activate<S: Scalar>(
  _ h: Operand<S>, bias: Tensor<S>, _ activation: Activation, into y: Operand<S>, differentiating: Bool
) {
  precondition(
    bias.count == h.columns && y.shape.count == h.shape.count, "activation of \(h.shape) into \(y.shape)")
  let (n, w, b) = (h.rows, h.columns, bias.pointer)
  switch (activation, h, y) {
  case (.gelu, .exact(let h), .exact(let y)):
    gelu(ExactElements(h), n, w, b, into: ExactElements(y), differentiating)
  case (.gelu, .rounded(let h), .rounded(let y)):
    gelu(RoundedElements(h), n, w, b, into: RoundedElements(y), differentiating)
  case (.quickGELU, .exact(let h), .exact(let y)):
    quickGELU(ExactElements(h), n, w, b, into: ExactElements(y), differentiating)
  case (.quickGELU, .rounded(let h), .rounded(let y)):
    quickGELU(RoundedElements(h), n, w, b, into: RoundedElements(y), differentiating)
  default: preconditionFailure("an exact and a rounded matrix: \(h.shape), \(y.shape)")
  }
}

@inline(__always)
private func gelu<E: Elements>(
  _ h: E, _ n: Int, _ w: Int, _ b: UnsafeMutablePointer<E.Number>, into y: E, _ differentiating: Bool
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
  _ h: E, _ n: Int, _ w: Int, _ b: UnsafeMutablePointer<E.Number>, into y: E, _ differentiating: Bool
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

/// dy ← dy · derivative, in place, and dbias += Σ_i dy[i, :]. Both are exact or both rounded.
@specialized(where S == Float)
@specialized(where S == Double)
public func biasActivationBackward<S: Scalar>(_ dy: Operand<S>, derivative: Operand<S>, dbias: Tensor<S>) {
  let (n, w, sums) = (dy.rows, dy.columns, dbias.pointer)
  precondition(
    derivative.shape.count == dy.shape.count && dbias.count == w, "\(dy.shape), \(derivative.shape), \(dbias.shape)")
  switch (dy, derivative) {
  case (.exact(let dy), .exact(let f)): timesDerivative(ExactElements(dy), ExactElements(f), n, w, sums)
  case (.rounded(let dy), .rounded(let f)): timesDerivative(RoundedElements(dy), RoundedElements(f), n, w, sums)
  default: preconditionFailure("an exact and a rounded matrix: \(dy.shape), \(derivative.shape)")
  }
}

@inline(__always)
private func timesDerivative<E: Elements>(
  _ dy: E, _ derivative: E, _ n: Int, _ w: Int, _ sums: UnsafeMutablePointer<E.Number>
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
