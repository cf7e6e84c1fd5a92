public import Tensor

/// The sum of weighted terms over a global batch, with gradients for this rank's raw features and for the parameters
/// that terms have of their own.
///
/// Those parameters (heads between widths, learned scales) are declared in the student's store under the prefix
/// `objective.`, so that they are reduced, updated, saved and resumed like any other.
public final class Objective<S: Scalar> {
  /// Prefix of the names of the objective's own parameters, which are no part of the model.
  public static var prefix: String { "objective." }

  /// May change between steps, as schedules ask; terms must not become used that `declare` did not know of.
  public var options: ObjectiveOptions

  /// Declares the parameters that these options need. `teacherWidth` is nil where there is no teacher.
  public init(
    _ options: ObjectiveOptions, studentWidth: Int, teacherWidth: Int?, declaringIn store: ParameterStore<S>
  ) {
    self.options = options
  }

  private let features = Features<S>()
  private let contrastive = Contrastive<S>()

  /// Room for the teacher's unit rows [b, d] of this rank's `rows` of a global batch of `count`, for the caller to fill
  /// before `accumulate`.
  public func teacherRows(_ rows: Range<Int>, of count: Int) -> (image: Tensor<S>, text: Tensor<S>) {
    (Tensor(Shape(0, 0)), Tensor(Shape(0, 0)))
  }

  /// Computes all terms for this rank's raw features [b, e]. Adds to the gradients of the logit scale and of the
  /// objective's own parameters this rank's share (shares sum over the ranks).
  ///
  /// - Parameters:
  ///   - rows: this rank's rows of the global batch of `count`.
  ///   - teacherScale: β, what the teacher's similarities are multiplied by (e^logit_scale); nil without a teacher.
  public func accumulate(
    image: Tensor<S>, text: Tensor<S>, rows: Range<Int>, count: Int, logitScale: Parameter<S>, teacherScale: S?,
    ranks: some Ranks<S>
  ) throws -> ObjectiveReport {
    try features.load(image: image, text: text, rows: rows, count: count, ranks: ranks)
    let loss = try contrastive.accumulate(
      features, logitScale: logitScale.value[0], weight: S(options.clip), logitScaleGradient: logitScale.gradient,
      ranks: ranks)
    return ObjectiveReport(total: options.clip * loss, terms: [.init(name: "clip", weight: options.clip, value: loss)])
  }

  /// The gradients with respect to the raw features [b, e] of the last `accumulate`.
  public func rawGradients() -> (image: Tensor<S>, text: Tensor<S>) { features.rawGradients() }
}

/// What a step's objective came to: the same on every rank.
public struct ObjectiveReport: Equatable, Sendable {
  public struct Term: Equatable, Sendable {
    /// `clip`, `fd`, `crd`, `icl`, `cross_kd`, `gd`, `afd`, `affinity`, `intra_image`, `intra_text`.
    public var name: String
    public var weight: Double
    /// Before the weight.
    public var value: Double
  }

  /// One modality's anchors: their divergences D, and their weights as multiples of 1/N.
  public struct Anchors: Equatable, Sendable {
    public var name: String
    public var divergenceMean: Double
    public var divergenceDeviation: Double
    public var weightMean: Double
    public var weightDeviation: Double
  }

  /// Σ weight · value.
  public var total: Double
  public var terms: [Term]
  public var anchors: [Anchors] = []
}
