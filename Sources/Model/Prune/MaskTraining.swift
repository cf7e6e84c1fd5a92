public import Tensor

/// The masks of one step before their update, as the log has them.
public struct MaskReport: Equatable, Sendable {
  /// The expected sparsity of the masks, and the target.
  public var expected: Double
  public var target: Double
  /// λ₁ and λ₂.
  public var multipliers: [Double]
  /// The term that is added to the loss of the objective.
  public var term: Double
}

/// Trains the masks of a model together with its weights towards a target sparsity. The state is the same on all ranks,
/// because the draws are a function of (seed, step) and the gradients are all-reduced before they are used.
public final class MaskTraining<S: Scalar> {
  /// The target of the sparsity, its course, and how fast the masks learn.
  public struct Options: Equatable, Sendable {
    /// The final target: the share of prunable parameters to remove, relative to the model before any pruning.
    public var sparsity: Double
    /// The initial target, which rises linearly to `sparsity` over `ramp` steps.
    public var start: Double
    public var ramp: Int
    /// AdamW's learning rate for log α, and with the opposite sign for the multipliers.
    public var learningRate: Double
    public var seed: UInt64

    public init(sparsity: Double, start: Double, ramp: Int, learningRate: Double, seed: UInt64) {
      (self.sparsity, self.start, self.ramp) = (sparsity, start, ramp)
      (self.learningRate, self.seed) = (learningRate, seed)
    }
  }

  public let masked: MaskedModel<S>
  public let options: Options
  /// The number of completed steps.
  public var step = 0
  /// log α of every mask, then λ₁ and λ₂.
  private let values: Tensor<Double>
  private let moments: (first: Tensor<Double>, second: Tensor<Double>)
  /// The derivative of each drawn mask by its log α.
  private var slopes: [Double]?

  public init(_ model: CLIP<S>, _ layout: MaskLayout, _ options: Options) {
    self.options = options
    masked = MaskedModel(model, layout)
    values = Tensor(Shape(layout.count + 2), Masks(layout).logAlpha + Lagrangian().multipliers)
    moments = (Tensor(values.shape), Tensor(values.shape))
  }

  private var layout: MaskLayout { masked.layout }
  /// The current parameters of the masks.
  public var masks: Masks { Masks(layout, logAlpha: values.slice(0..<layout.count).array) }

  /// Draws the masks of this step and applies them to the model.
  public func apply() {
    let drawn = masks.sample(seed: options.seed, step: step)
    masked.apply(drawn.values)
    slopes = drawn.slopes
  }

  /// Removes the masks from the model after the backward pass and returns their gradients, which must be all-reduced.
  public func remove() -> [Double] { masked.remove() }

  /// Runs `body` with the deterministic masks applied, so that the model computes what it would after the cut.
  public func withExpected<R>(_ body: () throws -> R) rethrows -> R {
    masked.apply(masks.expected)
    defer { masked.restore() }
    return try body()
  }

  /// Updates masks and multipliers, given the gradients of the masks summed over the ranks.
  public func update(_ gradient: [Double]) -> MaskReport {
    guard let slopes else { preconditionFailure("masks are updated before they are drawn") }
    let (sparsity, count) = (masks.sparsity, layout.count)
    let target = Lagrangian.target(at: step, from: options.start, to: options.sparsity, ramp: options.ramp)
    let lagrangian = Lagrangian(multipliers: values.slice(count..<values.count).array)
    let term = lagrangian.term(expected: sparsity.value, target: target)
    let total = Tensor<Double>(values.shape)
    for index in 0..<count { total[index] = gradient[index] * slopes[index] + term.expected * sparsity.slopes[index] }
    for (index, slope) in term.multipliers.enumerated() { total[count + index] = slope }
    step += 1
    move(0..<count, total, learningRate: options.learningRate)
    move(count..<values.count, total, learningRate: -options.learningRate)
    var moved = masks
    moved.clamp()
    for (index, value) in moved.logAlpha.enumerated() { values[index] = value }
    return MaskReport(expected: sparsity.value, target: target, multipliers: lagrangian.multipliers, term: term.value)
  }

  /// Updates a range of `values` with PyTorch's default AdamW without weight decay, as the reference does.
  private func move(_ range: Range<Int>, _ slopes: Tensor<Double>, learningRate: Double) {
    adamW(
      values.slice(range), gradient: slopes.slice(range), first: moments.first.slice(range),
      second: moments.second.slice(range),
      AdamWStep(learningRate: learningRate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: step))
  }

  /// The prefix of every name in `state`.
  public static var prefix: String { "prune." }

  /// The parts of the state: each vector of the masks, and the multipliers, of the values and of both moments.
  private var parts: [(name: String, tensor: Tensor<Double>)] {
    [("values", values), ("moment1", moments.first), ("moment2", moments.second)].flatMap { kind, tensor in
      (layout.vectors + [("multipliers", layout.count..<values.count)]).map {
        (name: "\(Self.prefix)\($0.name).\(kind)", tensor: tensor.slice($0.range))
      }
    }
  }

  /// The state that a resumed run needs, by name.
  public var state: [(name: String, values: [Double])] { parts.map { ($0.name, $0.tensor.array) } }

  /// Restores the state after `step` steps. Returns what is wrong with every vector that does not belong to this run.
  public func restore(_ stored: [String: [Double]], step: Int) -> [String] {
    self.step = step
    let parts = parts
    let known = Set(parts.map(\.name))
    var problems = stored.keys.filter { $0.hasPrefix(Self.prefix) && !known.contains($0) }.sorted()
      .map { "\($0) belongs to no mask of this run" }
    for (name, tensor) in parts {
      guard let found = stored[name], found.count == tensor.count else {
        problems.append("\(name) has \(stored[name].map { "\($0.count)" } ?? "no") numbers, expected \(tensor.count)")
        continue
      }
      for (index, value) in found.enumerated() { tensor[index] = value }
    }
    return problems
  }
}

/// The term that drives the masks to the target sparsity: λ₁ max(t − e, 0) + λ₂ max(t − e, 0)², with the expected
/// sparsity e and the target t. The masks minimise it and the multipliers maximise it; both multipliers begin at 10.
struct Lagrangian {
  var multipliers = [10.0, 10.0]

  /// Returns the term, and its derivatives by e and by the multipliers.
  func term(expected e: Double, target t: Double) -> (value: Double, expected: Double, multipliers: [Double]) {
    let (gap, first, second) = (max(t - e, 0), multipliers[0], multipliers[1])
    return (first * gap + second * gap * gap, gap > 0 ? -(first + 2 * second * gap) : 0, [gap, gap * gap])
  }

  /// Returns the target at a step, which rises linearly from `start` to `sparsity` over `ramp` steps.
  static func target(at step: Int, from start: Double, to sparsity: Double, ramp: Int) -> Double {
    guard ramp > 0 else { return sparsity }
    return start + (sparsity - start) * min(1, Double(step) / Double(ramp))
  }
}
