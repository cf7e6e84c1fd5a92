internal import RealModule
public import Settings
internal import Tensor

/// γ, the learned scale of the terms between student anchors and teacher keys.
final class CrossScale<S: Scalar> {
  private let parameter: Parameter<S>
  private var form = CrossScaleForm.raw
  /// This rank's share of ∂L/∂γ, to which the terms add before the parameter learns of the sum.
  private var gradient = 0.0

  init(_ parameter: Parameter<S>) { self.parameter = parameter }

  /// Returns γ, used in a form that all its terms agree on.
  func value(_ form: CrossScaleForm) -> S {
    self.form = form
    return form == .raw ? parameter.value[0] : S.exp(parameter.value[0])
  }

  func add(_ share: Double) { gradient += share }

  /// Adds to the parameter's gradient what the terms of a step have added up.
  func finish() {
    if gradient != 0 { parameter.gradient[0] += S(gradient) * (form == .raw ? 1 : S.exp(parameter.value[0])) }
    gradient = 0
  }
}

/// How γ is used: as CLIP-KD has it, it multiplies as it is (2.66 at the start); or its exponential does (14.3).
public enum CrossScaleForm: String, CaseIterable, Schedulable {
  case raw, exp

  /// The key of the form in the run file, which the terms share.
  static let key = "icl_scale"
}
