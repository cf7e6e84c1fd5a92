internal import Foundation
public import Tensor

/// Two towers, the logarithm of the scale of their similarities, and SigLIP's bias if the model has one.
public final class CLIP<S: Scalar> {
  public let config: CLIPConfig
  public let parameters: ParameterStore<S>
  public let visual: any VisionTower<S>
  public let text: TextTransformer<S>
  public let logitScale: Parameter<S>
  private let precision: ComputePrecision
  /// The bounds within which the logit scale's parameter is kept after every step, for a scale of 1 to 100.
  public static var logitScaleBounds: ClosedRange<Double> { 0...log(100.0) }

  /// Creates a model whose parameters are zero until `initialize` or a file sets them. A frozen one has no gradients.
  public convenience init(
    _ config: CLIPConfig, frozen: Bool = false, values: Tensor<S>? = nil, precision: ComputePrecision = .fp32,
    recompute: Recompute = .none
  ) {
    self.init(declaring: config, precision, recompute)
    parameters.allocate(gradients: !frozen, values: values)
  }

  /// Returns the names, shapes and places of a model's parameters, without memory for them.
  public static func layout(_ config: CLIPConfig) -> ParameterStore<S> { CLIP(declaring: config).parameters }

  /// Returns the places of the parameters that each stage of the vision tower reads, and then of the text tower's.
  public static func stages(_ config: CLIPConfig) -> [[Range<Int>]] {
    let model = CLIP(declaring: config)
    return model.visual.stages.extents + model.text.stages.extents
  }

  /// Returns a model and the objective that trains it, with a teacher whose embeddings have `teacherWidth` (nil: none)
  /// and the `others` of `Objective`, without memory until `parameters.allocate(gradients: true)`. The objective's own
  /// parameters stand behind the model's in the same store: they are drawn, reduced, updated and saved together.
  public static func student(
    _ config: CLIPConfig, _ options: ObjectiveOptions, teacherWidth: Int?, others: [(width: Int, scale: S)] = [],
    tiles: Tiles<S> = Tiles(), precision: ComputePrecision = .fp32, recompute: Recompute = .none
  ) -> (model: CLIP, objective: Objective<S>) {
    let model = CLIP(declaring: config.trained(by: options), precision, recompute)
    let objective = Objective(
      options, studentWidth: config.embedding, teacherWidth: teacherWidth, others: others,
      declaringIn: model.parameters, tiles: tiles)
    return (model, objective)
  }

  private init(declaring config: CLIPConfig, _ precision: ComputePrecision = .fp32, _ recompute: Recompute = .none) {
    (self.config, self.precision) = (config, precision)
    parameters = ParameterStore()
    if config.vision.stages == nil {
      visual = VisionTransformer(parameters, config, precision, recompute)
    } else {
      visual = ModifiedResNet(parameters, config, precision, recompute)
    }
    text = TextTransformer(parameters, config, precision, recompute)
    logitScale = parameters.declare(CLIPConfig.logitScale, Shape(), .constant(log(1 / 0.07)))
    // It stands behind the logit scale, with the parameters that only the loss reads.
    if let bias = config.initialLogitBias { _ = parameters.declare(CLIPConfig.logitBias, Shape(), .constant(bias)) }
  }

  /// The places of the parameters that the towers read only after rounding them to bf16, in rising order; empty if they
  /// compute in fp32.
  public var roundedExtents: [Range<Int>] { precision == .bf16 ? parameters.operandExtents : [] }
  /// The model's parameters, without the objective's own.
  public var entries: [NamedSlice] { parameters.entries.filter { $0.owner == .model } }
  /// Draws all parameters, as a function of the seed and of their names.
  public func initialize(seed: UInt64) { parameters.initialize(seed: seed) }

  /// Moves the logit scale into its bounds; returns true if it was outside.
  @discardableResult public func clampLogitScale() -> Bool {
    let (value, bounds) = (logitScale.value, Self.logitScaleBounds)
    let clamped = min(max(value[0], S(bounds.lowerBound)), S(bounds.upperBound))
    defer { value[0] = clamped }
    return clamped != value[0]
  }

  /// Returns the operations of a forward's matrix products for captions of these lengths; a multiply-add counts twice.
  public func forwardOperations(
    images: Int, captions: some Sequence<Int>, use: TowerUse = .forward
  ) -> Double {
    let (width, blocks) = (config.text.width, config.text.blockSizes)
    let text = captions.reduce(0.0) {
      $0 + blocks.forwardOperations(length: Double($1), width: width) + 2 * Double(width * config.embedding)
    }
    return Double(images) * config.vision.forwardOperations(embedding: config.embedding, use: use) + text
  }
}
