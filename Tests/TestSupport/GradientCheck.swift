public import Tensor

/// Compares the gradients of a function with finite differences in Double, for every element of every variable.
///
/// The function returns outputs y. The check weights them with random numbers c, so the function that is differentiated
/// is f = Σ c_k y_k, and the backward pass starts from c. With D(h) = (f(x + h) − f(x − h)) / 2h, two differences give
/// the four-point formula D₄(h) = (4 D(h) − D(2h)) / 3 = f′ − h⁴/30 · f⁽⁵⁾ + …, and a third one estimates its error:
/// D₄(h) − D₄(2h) is fifteen times the error of D₄(h), which is subtracted as well.
///
/// The step follows from the machine epsilon ε. Values are rounded to about κ ε F, where F = Σ |c_k y_k| is the size of
/// the function and κ is the number of roundings between a variable and a value that do not cancel; the error of D₄ is
/// then κ ε F / h. For variables and derivatives of order 1 the sum of that and of h⁴ is least near h = ε^(1/5), to
/// which 2⁻¹⁰ is the nearest power of two; x ± h is then exact for all but the last bits of x, and both errors are
/// about h⁴ ≈ ε^(4/5) ≈ 1e-12. An element may therefore differ by
///
///     κ ε F / h + h⁴ G + |D₄(h) − D₄(2h)| / 15
///
/// where G is the largest gradient of all. This is the error of the *difference*; the gradient's own is smaller.
public struct GradientCheck {
  /// A tensor on which the outputs depend, and the tensor to which the backward pass writes its gradient.
  public struct Variable {
    public let name: String
    public let value: Tensor<Double>
    public let gradient: Tensor<Double>
    /// True if the backward pass adds to the gradient, as it must for parameters; false if it overwrites it.
    public let accumulates: Bool

    public init(_ name: String, _ value: Tensor<Double>, gradient: Tensor<Double>, accumulates: Bool = true) {
      precondition(value.count == gradient.count, "\(name) \(value.shape) with a gradient of \(gradient.shape)")
      self.name = name
      self.value = value
      self.gradient = gradient
      self.accumulates = accumulates
    }
  }

  public static let step = 0x1p-10

  private let variables: [Variable]
  /// κ.
  private let roundings: Double

  public init(_ variables: [Variable], roundings: Double = 16) {
    self.variables = variables
    self.roundings = roundings
  }

  /// Runs the check.
  ///
  /// Before the backward pass, gradients that accumulate hold random numbers, which must remain in the sum, and those
  /// that are overwritten hold NaN.
  ///
  /// - Parameters:
  ///   - outputs: computes y from the variables.
  ///   - backward: computes the gradients from ∂f/∂y = c.
  public func run(
    outputs: () throws -> [Double], backward: ([Double]) throws -> Void
  ) rethrows -> GradientReport {
    var random = KeyedRandom(seed: 1, purpose: "gradient check")
    let values = try outputs()
    let weights = values.map { _ in random.uniform(from: 0.5, to: 1.5) * (random.next() & 1 == 0 ? 1 : -1) }
    var before: [[Double]] = []
    for variable in variables {
      let noise = (0..<variable.gradient.count).map { _ in
        variable.accumulates ? random.uniform(from: -1, to: 1) : Double.nan
      }
      for (index, number) in noise.enumerated() { variable.gradient[index] = number }
      before.append(noise)
    }
    try backward(weights)
    let claimed = zip(variables, before).map { variable, noise in
      variable.accumulates ? zip(variable.gradient.array, noise).map { $0 - $1 } : variable.gradient.array
    }

    let size = zip(values, weights).reduce(0) { $0 + abs($1.0 * $1.1) }
    let steepest = claimed.joined().reduce(0) { max($0, abs($1)) }
    let h = Self.step
    let base = roundings * Double.ulpOfOne * size / h + h * h * h * h * steepest
    var report = GradientReport()
    for (variable, gradient) in zip(variables, claimed) {
      for index in 0..<variable.value.count {
        let slopes = try [h, 2 * h, 4 * h].map { try slope(outputs, weights, variable.value, index, $0) }
        let (near, far) = ((4 * slopes[0] - slopes[1]) / 3, (4 * slopes[1] - slopes[2]) / 3)
        let correction = (near - far) / 15
        report.record(
          GradientReport.Element(
            variable: variable.name, index: index, claimed: gradient[index], measured: near + correction,
            tolerance: base + abs(correction)))
      }
    }
    return report
  }

  /// Returns D(h) for one element, whose value is restored afterwards. The two values of each output are subtracted
  /// before the outputs are summed, so that outputs that do not change add no rounding.
  private func slope(
    _ outputs: () throws -> [Double], _ weights: [Double], _ value: Tensor<Double>, _ index: Int, _ h: Double
  ) rethrows -> Double {
    let x = value[index]
    defer { value[index] = x }
    value[index] = x + h
    let above = try outputs()
    value[index] = x - h
    let below = try outputs()
    var sum = 0.0
    for k in weights.indices { sum += weights[k] * (above[k] - below[k]) }
    return sum / (2 * h)
  }
}

/// The result of a gradient check: the number of elements and of failures, and the worst element.
public struct GradientReport: CustomStringConvertible {
  public struct Element {
    public let variable: String
    public let index: Int
    public let claimed: Double
    public let measured: Double
    public let tolerance: Double

    /// The error in units of the tolerance; infinite if a number is not finite.
    public var excess: Double {
      let ratio = abs(claimed - measured) / tolerance
      return ratio.isNaN ? .infinity : ratio
    }
  }

  public private(set) var count = 0
  public private(set) var failures = 0
  public private(set) var worst: Element?
  /// The largest gradient of each variable, and the largest tolerance of any of its elements.
  private var reach: [String: (gradient: Double, tolerance: Double)] = [:]

  mutating func record(_ element: Element) {
    count += 1
    if !(element.excess <= 1) { failures += 1 }
    if element.excess > worst?.excess ?? -1 { worst = element }
    let old = reach[element.variable] ?? (0, 0)
    reach[element.variable] = (max(old.gradient, abs(element.measured)), max(old.tolerance, element.tolerance))
  }

  /// The variables without any gradient above a thousand times the tolerance, about which the check says little.
  public var blind: [String] {
    reach.filter { !($0.value.gradient > 1000 * $0.value.tolerance) }.keys.sorted()
  }

  /// True if all elements agree, and every variable has gradients large enough to reveal a wrong formula.
  public var passed: Bool { count > 0 && failures == 0 && blind.isEmpty }

  public var description: String {
    guard let worst else { return "no element was compared" }
    var text = "\(failures) of \(count) gradients are wrong"
    text += "; worst: \(worst.variable)[\(worst.index)] is \(worst.claimed), measured \(worst.measured)"
    text += ", \(worst.excess) times the tolerance of \(worst.tolerance)"
    return blind.isEmpty ? text : text + "; too small to tell: \(blind.joined(separator: ", "))"
  }
}
