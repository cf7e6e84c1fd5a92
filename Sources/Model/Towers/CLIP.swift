internal import Foundation
public import Tensor

/// Two towers and the logarithm of the scale of their similarities.
public final class CLIP<S: Scalar> {
  public let config: CLIPConfig
  public let parameters: ParameterStore<S>
  public let visual: any VisionTower<S>
  public let text: TextTransformer<S>
  public let logitScale: Parameter<S>

  /// The logit scale's parameter is kept within this after every step: a scale of 1 to 100.
  public static var logitScaleBounds: ClosedRange<Double> { 0...log(100.0) }

  /// A model with all parameters zero; `initialize` or a file gives them values. A frozen one has no gradients.
  public convenience init(
    _ config: CLIPConfig, frozen: Bool = false, values: Tensor<S>? = nil, precision: Precision = .fp32,
    recompute: Recompute = .none
  ) {
    self.init(declaring: config, precision, recompute)
    parameters.allocate(gradients: !frozen, values: values)
  }

  /// The names, shapes and places of a model's parameters, without memory for them.
  public static func layout(_ config: CLIPConfig) -> ParameterStore<S> { CLIP(declaring: config).parameters }

  /// The places of the parameters that each stage of the vision tower reads, then of each of the text tower's
  /// (`TowerStages`).
  public static func stages(_ config: CLIPConfig) -> [[Range<Int>]] {
    let model = CLIP(declaring: config)
    return model.visual.stages.extents + model.text.stages.extents
  }

  /// A model to train under an objective, whose own parameters stand behind the model's in the same store: so they are
  /// drawn, reduced, updated and saved with them. Without memory until `parameters.allocate(gradients: true)`.
  /// `teacherWidth` is that of the teacher's embeddings, nil without a teacher; `others` as for `Objective`.
  public static func student(
    _ config: CLIPConfig, _ options: ObjectiveOptions, teacherWidth: Int?, others: [(width: Int, scale: S)] = [],
    tiles: Tiles<S> = Tiles(), precision: Precision = .fp32, recompute: Recompute = .none
  ) -> (model: CLIP, objective: Objective<S>) {
    let model = CLIP(declaring: config, precision, recompute)
    let objective = Objective(
      options, studentWidth: config.embedding, teacherWidth: teacherWidth, others: others,
      declaringIn: model.parameters,
      tiles: tiles)
    return (model, objective)
  }

  private init(declaring config: CLIPConfig, _ precision: Precision = .fp32, _ recompute: Recompute = .none) {
    self.config = config
    parameters = ParameterStore()
    if let stages = config.vision.stages {
      visual = ModifiedResNet(
        parameters, config.vision, stages: stages, embedding: config.embedding, precision: precision,
        recompute: recompute)
    } else {
      visual = VisionTransformer(
        parameters, config.vision, embedding: config.embedding, activation: config.activation, precision: precision,
        recompute: recompute)
    }
    text = TextTransformer(
      parameters, config.text, embedding: config.embedding, activation: config.activation, precision: precision,
      recompute: recompute)
    logitScale = parameters.declare("logit_scale", Shape(), .constant(log(1 / 0.07)))
  }

  /// The model's parameters, without those that an objective has declared beside them.
  public var entries: [ParameterStore<S>.Entry] {
    parameters.entries.filter { !$0.name.hasPrefix(Objective<S>.prefix) }
  }

  /// Draws all parameters: a function of the seed and of their names.
  public func initialize(seed: UInt64) { parameters.initialize(seed: seed) }

  /// Keeps the logit scale within its bounds; true where it had to be moved.
  @discardableResult
  public func clampLogitScale() -> Bool {
    let value = logitScale.value
    let bounds = Self.logitScaleBounds
    let clamped = min(max(value[0], S(bounds.lowerBound)), S(bounds.upperBound))
    defer { value[0] = clamped }
    return clamped != value[0]
  }

  /// Multiply-adds twice, of the matrix products of one forward: of `pictures` pictures and of captions with these
  /// lengths.
  public func forwardOperations(pictures: Int, captions: some Sequence<Int>) -> Double {
    let t = config.text
    let text = captions.reduce(0.0) {
      $0 + t.blockSizes.forwardOperations(length: $1, width: t.width)
        + 2 * Double(t.width * config.embedding)
    }
    return Double(pictures) * config.vision.forwardOperations(embedding: config.embedding) + text
  }
}
