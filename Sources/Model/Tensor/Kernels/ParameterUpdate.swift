internal import RealModule

/// The numbers of one AdamW step (see `adamW`).
public struct AdamWStep: Sendable {
  public let learningRate: Double
  public let decay: Double
  public let beta1: Double
  public let beta2: Double
  public let epsilon: Double
  /// t, which counts steps from 1.
  public let step: Int
  public let gradientScale: Double

  public init(
    learningRate: Double, decay: Double = 0, beta1: Double, beta2: Double, epsilon: Double, step: Int,
    gradientScale: Double = 1
  ) {
    (self.learningRate, self.decay, self.gradientScale) = (learningRate, decay, gradientScale)
    (self.beta1, self.beta2, self.epsilon, self.step) = (beta1, beta2, epsilon, step)
  }
}

/// One step of AdamW (Loshchilov, Hutter: Decoupled Weight Decay Regularization, ICLR 2019), in one pass.
///
/// g ← gradientScale · g; p ← p (1 − learningRate · decay); m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²;
/// p ← p − learningRate/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε). p, m and v are `parameters`, `first` and `second`.
@specialized(where S == Float) @specialized(where S == Double)
public func adamW<S: Scalar>(
  _ parameters: Tensor<S>, gradient: Tensor<S>, first: Tensor<S>, second: Tensor<S>, _ step: AdamWStep
) {
  let (n, p, g, m, v) = (parameters.count, parameters.pointer, gradient.pointer, first.pointer, second.pointer)
  precondition(gradient.count == n && first.count == n && second.count == n && step.step >= 1)
  let keep = S(1 - step.learningRate * step.decay)
  let (b1, c1, b2, c2) = (S(step.beta1), S(1 - step.beta1), S(step.beta2), S(1 - step.beta2))
  let size = S(step.learningRate / (1 - Double.pow(step.beta1, step.step)))
  let correction = S(1 / (1 - Double.pow(step.beta2, step.step)).squareRoot())
  let (small, share) = (S(step.epsilon), S(step.gradientScale))
  Threads.split(n, grain: 1 << 14) { _, range in
    for i in range {
      let slope = g[i] * share
      let mean = (b1 * m[i]).addingProduct(c1, slope)
      let square = (b2 * v[i]).addingProduct(c2, slope * slope)
      (m[i], v[i]) = (mean, square)
      p[i] = p[i] * keep - size * mean / (square.squareRoot() * correction + small)
    }
  }
}

/// e ← e + share · (x − e), a step of a moving average; where x equals e no bit changes.
@specialized(where S == Float) @specialized(where S == Double)
public func approach<S: Scalar>(_ e: Tensor<S>, _ x: Tensor<S>, share: S) {
  precondition(e.count == x.count, "\(e.shape) towards \(x.shape)")
  let (p, q) = (e.pointer, x.pointer)
  Threads.split(e.count, grain: 1 << 16) { _, range in
    for i in range { p[i] = p[i].addingProduct(share, q[i] - p[i]) }
  }
}

/// x ↔ y, element by element.
@specialized(where S == Float) @specialized(where S == Double)
public func swapValues<S: Scalar>(_ x: Tensor<S>, _ y: Tensor<S>) {
  precondition(x.count == y.count, "a swap of \(x.shape) for \(y.shape)")
  let (p, q) = (x.pointer, y.pointer)
  Threads.split(x.count, grain: 1 << 16) { _, range in for i in range { (p[i], q[i]) = (q[i], p[i]) } }
}
