internal import RealModule
internal import Tensor

/// The anchors' weights w, computed from sources a, and the loss of the divergences D: L = Σ w_i D_i over the global
/// batch.
///
/// | weighting | w_i | h_i = ∂L/∂a_i |
/// |---|---|---|
/// | uniform | 1/N | 0 |
/// | sum | a_i/(Σ a + ε) | (D_i − L)/(Σ a + ε) |
/// | raw | a_i/N | D_i/N |
/// | softmax | e^(a_i/T) / Σ e^(a/T), falling for T < 0 | w_i (D_i − L)/T |
/// | inverse | r_i / Σ r with r = 1/(a + ε′) | −w_i r_i (D_i − L) |
/// | expsat | (1 − e^−a_i)/N | e^−a_i D_i/N |
/// | one_plus | (1 + a_i)/N | D_i/N |
///
/// ∂L/∂D_i = w_i; if the source a is D itself, h_i is added to it.
struct IntraWeights {
  /// ε prevents a division by zero where Σ a = 0, because teacher and student agree everywhere.
  static let epsilon = 1e-12
  /// The weights w and slopes h of this rank's anchors.
  let weights: [Double]
  let slopes: [Double]
  /// L, the same on every rank.
  let loss: Double

  init<S: Scalar>(
    source: Tensor<S>, divergence: Tensor<S>, _ options: IntraOptions, count: Int, _ ranks: some Ranks<S>
  ) throws {
    let (a, d) = (source.array.map { Double($0) }, divergence.array.map { Double($0) })
    let (n, temperature) = (Double(count), options.softmaxTemperature)
    func total(_ numbers: [Double]) throws -> Double {
      var total = [numbers.reduce(0, +)]
      try ranks.allReduce(&total)
      return total[0]
    }
    var sum = 0.0
    var reciprocals: [Double] = []
    switch options.weighting {
    case .uniform: weights = a.map { _ in 1 / n }
    case .raw: weights = a.map { $0 / n }
    case .expsat: weights = a.map { -Double.expMinusOne(-$0) / n }
    case .onePlus: weights = a.map { (1 + $0) / n }
    case .sum:
      sum = try total(a) + Self.epsilon
      weights = a.map { $0 / sum }
    case .softmax:
      let exponents = temperature < 0 ? a.map { -$0 } : a
      // NaN must stay NaN, so it is not left to `max`.
      var largest = [exponents.reduce(-Double.infinity) { $0 > $1 ? $0 : $1 }]
      try ranks.allReduceMaximum(&largest)
      let powers = exponents.map { Double.exp(($0 - largest[0]) / abs(temperature)) }
      sum = try total(powers)
      weights = powers.map { $0 / sum }
    case .inverse:
      reciprocals = a.map { 1 / ($0 + options.inverseEpsilon) }
      sum = try total(reciprocals)
      weights = reciprocals.map { $0 / sum }
    }
    let loss = try total(zip(weights, d).map(*))
    self.loss = loss
    switch options.weighting {
    case .uniform: slopes = a.map { _ in 0 }
    case .raw, .onePlus: slopes = d.map { $0 / n }
    case .expsat: slopes = zip(a, d).map { Double.exp(-$0) * $1 / n }
    case .sum: slopes = d.map { ($0 - loss) / sum }
    case .softmax: slopes = zip(weights, d).map { $0 * ($1 - loss) / temperature }
    case .inverse: slopes = zip(zip(weights, reciprocals), d).map { -$0.0 * $0.1 * ($1 - loss) }
    }
  }

  /// Returns the weights as multiples of their mean over the global batch of `count`; 1 if all weights are 0.
  func multiples<S: Scalar>(count: Int, _ ranks: some Ranks<S>) throws -> [Double] {
    var sum = [weights.reduce(0, +)]
    try ranks.allReduce(&sum)
    return weights.map { sum[0] == 0 ? 1 : $0 * Double(count) / sum[0] }
  }
}
