/// What stands between the two linear maps of an MLP.
public enum Activation: String, Sendable, Codable {
  /// x Φ(x), with the error function and not its tanh approximation.
  case gelu
  /// x σ(1.702 x), as OpenAI's weights and some of LAION's want it.
  case quickGELU = "quick_gelu"
}

/// y = f(h + bias); on return h holds f'(h + bias), which is all that backward needs.
///
/// One pass in place of three: the bias is added here and not by the product before, and value and derivative share
/// their exponential.
public func biasActivation<S: Scalar>(
  _ h: Tensor<S>, bias: Tensor<S>, _ activation: Activation, into y: Tensor<S>
) {
  precondition(bias.count == h.columns && y.count == h.count, "activation of \(h.shape) into \(y.shape)")
  switch activation {
  case .gelu: biasGELU(h, bias: bias, into: y)
  case .quickGELU: biasQuickGELU(h, bias: bias, into: y)
  }
}

@specialized(where S == Float)
@specialized(where S == Double)
private func biasGELU<S: Scalar>(_ h: Tensor<S>, bias: Tensor<S>, into y: Tensor<S>) {
  let w = h.columns
  let (p, b, q) = (h.pointer, bias.pointer, y.pointer)
  Threads.split(h.rows, grain: 16) { _, rows in
    for i in rows {
      let (source, target) = (p + i * w, q + i * w)
      for j in 0..<w {
        let x = source[j] + b[j]
        let (cumulative, density) = S.gaussian(x)
        target[j] = x * cumulative
        source[j] = cumulative.addingProduct(x, density)
      }
    }
  }
}

@specialized(where S == Float)
@specialized(where S == Double)
private func biasQuickGELU<S: Scalar>(_ h: Tensor<S>, bias: Tensor<S>, into y: Tensor<S>) {
  let w = h.columns
  let (p, b, q) = (h.pointer, bias.pointer, y.pointer)
  let slope = S(1.702)
  Threads.split(h.rows, grain: 16) { _, rows in
    for i in rows {
      let (source, target) = (p + i * w, q + i * w)
      for j in 0..<w {
        let x = source[j] + b[j]
        let sigmoid = 1 / (1 + S.exponential(-slope * x))
        target[j] = x * sigmoid
        source[j] = sigmoid * (1 + slope * x * (1 - sigmoid))
      }
    }
  }
}

/// y = f(h + bias), to the bit what `biasActivation` writes; h stays.
public func activate<S: Scalar>(
  _ h: Tensor<S>, bias: Tensor<S>, _ activation: Activation, into y: Tensor<S>
) {
  precondition(bias.count == h.columns && y.count == h.count, "activation of \(h.shape) into \(y.shape)")
  switch activation {
  case .gelu: gelu(h, bias: bias, into: y)
  case .quickGELU: quickGELU(h, bias: bias, into: y)
  }
}

@specialized(where S == Float)
@specialized(where S == Double)
private func gelu<S: Scalar>(_ h: Tensor<S>, bias: Tensor<S>, into y: Tensor<S>) {
  let w = h.columns
  let (p, b, q) = (h.pointer, bias.pointer, y.pointer)
  Threads.split(h.rows, grain: 16) { _, rows in
    for i in rows {
      let (source, target) = (p + i * w, q + i * w)
      for j in 0..<w {
        let x = source[j] + b[j]
        target[j] = x * S.gaussian(x).0
      }
    }
  }
}

@specialized(where S == Float)
@specialized(where S == Double)
private func quickGELU<S: Scalar>(_ h: Tensor<S>, bias: Tensor<S>, into y: Tensor<S>) {
  let w = h.columns
  let (p, b, q) = (h.pointer, bias.pointer, y.pointer)
  let slope = S(1.702)
  Threads.split(h.rows, grain: 16) { _, rows in
    for i in rows {
      let (source, target) = (p + i * w, q + i * w)
      for j in 0..<w {
        let x = source[j] + b[j]
        target[j] = x * (1 / (1 + S.exponential(-slope * x)))
      }
    }
  }
}

/// dy ← dy · derivative, in place, and dbias += Σ_i dy[i, :].
@specialized(where S == Float)
@specialized(where S == Double)
public func biasActivationBackward<S: Scalar>(_ dy: Tensor<S>, derivative: Tensor<S>, dbias: Tensor<S>) {
  let (n, w) = (dy.rows, dy.columns)
  precondition(derivative.count == dy.count && dbias.count == w, "\(dy.shape), \(derivative.shape), \(dbias.shape)")
  let (d, f, s) = (dy.pointer, derivative.pointer, dbias.pointer)
  Threads.split(w, grain: 64) { _, columns in
    for i in 0..<n {
      let (row, slope) = (d + i * w, f + i * w)
      for j in columns {
        let value = row[j] * slope[j]
        row[j] = value
        s[j] += value
      }
    }
  }
}
