internal import RealModule

/// One step of AdamW (Loshchilov, Hutter: Decoupled Weight Decay Regularization) over consecutive parameters, in one
/// pass.
///
/// g ← gradientScale · g; p ← p (1 − rate · decay); m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²;
/// p ← p − rate/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε), with t = `step` ≥ 1. The gradient itself is left as it is.
@specialized(where S == Float)
@specialized(where S == Double)
public func adamW<S: Scalar>(
  _ parameters: Tensor<S>, gradient: Tensor<S>, first: Tensor<S>, second: Tensor<S>, step: Int,
  rate: Double, decay: Double, beta1: Double, beta2: Double, epsilon: Double, gradientScale: Double
) {
  let n = parameters.count
  precondition(gradient.count == n && first.count == n && second.count == n && step >= 1)
  let (p, g, m, v) = (parameters.pointer, gradient.pointer, first.pointer, second.pointer)
  let keep = S(1 - rate * decay)
  let (b1, c1, b2, c2) = (S(beta1), S(1 - beta1), S(beta2), S(1 - beta2))
  let size = S(rate / (1 - Double.pow(beta1, step)))
  let correction = S(1 / (1 - Double.pow(beta2, step)).squareRoot())
  let (small, share) = (S(epsilon), S(gradientScale))
  Threads.split(n, grain: 1 << 14) { _, range in
    for i in range {
      let slope = g[i] * share
      let mean = (b1 * m[i]).addingProduct(c1, slope)
      let square = (b2 * v[i]).addingProduct(c2, slope * slope)
      m[i] = mean
      v[i] = square
      p[i] = p[i] * keep - size * mean / (square.squareRoot() * correction + small)
    }
  }
}
