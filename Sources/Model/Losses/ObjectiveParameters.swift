internal import RealModule
public import Settings
public import Tensor

/// Everything that terms are created from: the widths of the rows, the tiles that terms share, and the parameters that
/// the objective learns.
///
/// The objective's own parameters (heads between widths, learned scales) are declared in the student's store under the
/// prefix `objective.`, so that they are reduced, updated, saved and resumed like any other.
public final class ObjectiveParameters<S: Scalar> {
  let tiles: Tiles<S>
  let studentWidth: Int
  /// The width of the teacher's embeddings; the student's if there is no teacher.
  let teacherWidth: Int
  private let store: ParameterStore<S>
  private(set) var crossScale: CrossScale<S>?

  init(_ store: ParameterStore<S>, tiles: Tiles<S>, student: Int, teacher: Int) {
    (self.store, self.tiles, studentWidth, teacherWidth) = (store, tiles, student, teacher)
  }

  private func declare(_ name: String, _ shape: Shape, _ initial: Initial) -> Parameter<S> {
    store.declare("\(NamedSlice.Owner.objectivePrefix)\(name)", shape, initial)
  }

  /// Declares an affine map between widths with PyTorch's initial values.
  func linear(_ name: String, from inputs: Int, to outputs: Int) -> Linear<S> {
    let bound = Initial.uniform(1 / Double(inputs).squareRoot())
    let prefix = "\(NamedSlice.Owner.objectivePrefix)\(name)."
    return Linear(store, prefix: prefix, from: inputs, to: outputs, (bound, bound))
  }

  /// ln(1/0.07), at which learned scales begin, as CLIP's own does; CLIP-KD uses it without the exponential.
  static var initialScale: Double { Double.log(1 / 0.07) }

  /// Declares a learned scale.
  func scale(_ name: String) -> Parameter<S> { declare(name, Shape(), .constant(Self.initialScale)) }

  /// Returns the scale γ, which all terms between student anchors and teacher keys share.
  func sharedCrossScale() -> CrossScale<S> {
    let shared = crossScale ?? CrossScale(scale("cross_logit_scale"))
    crossScale = shared
    return shared
  }

  /// Returns the model's `logit_bias` [], which belongs to the model and so has no prefix. It is declared here only if
  /// the store does not hold a whole model.
  func logitBias(_ initial: Double) -> Parameter<S> {
    let name = CLIPConfig.logitBias
    guard let index = store.entries.firstIndex(where: { $0.name == name }) else {
      return store.declare(name, Shape(), .constant(initial))
    }
    return Parameter(store: store, index: index)
  }
}

/// A learned map into unit rows: norm(W x + b), with W [d, e] and b [d].
final class Head<S: Scalar> {
  let rows = UnitRows<S>()
  let linear: Linear<S>

  init(_ linear: Linear<S>) { self.linear = linear }

  /// Maps raw rows [b, e] to the unit rows [b, d] in `rows`. With `alone` there is no room for other ranks' rows.
  func forward(_ raw: Tensor<S>, _ batch: LocalBatch, alone: Bool = false) {
    rows.place(batch, width: linear.bias.shape.count, alone: alone)
    linear.forward(raw, into: rows.own)
    rows.normalize(rows.own)
  }

  /// Adds to the gradients of W and b, and adds the gradient of the raw rows to `gradient` [b, e].
  func backward(_ raw: Tensor<S>, addingTo gradient: Tensor<S>) {
    let dy = rows.rawGradient()
    matmul(dy, linear.weight.value, into: gradient, beta: 1)
    matmul(dy, raw, into: linear.weight.gradient, transposeA: true, beta: 1)
    addColumnSums(of: .fp32(dy), to: linear.bias.gradient)
  }
}

/// A learned scale of similarities: γ of the terms between student anchors and teacher keys, or one of the
/// intra-modal term's.
final class CrossScale<S: Scalar> {
  private let parameter: Parameter<S>
  private var form = CrossScaleForm.raw
  /// This rank's share of ∂L/∂scale, to which the terms of a step add.
  var gradient = 0.0

  init(_ parameter: Parameter<S>) { self.parameter = parameter }

  /// Returns the scale in the form that all its terms agree on.
  func value(_ form: CrossScaleForm) -> S {
    self.form = form
    return form.scale(parameter.value[0])
  }

  /// Adds the sum of the terms' shares to the parameter's gradient, and clears it.
  func finish() {
    if gradient != 0 { parameter.gradient[0] += S(gradient) * (form == .raw ? 1 : S.exp(parameter.value[0])) }
    gradient = 0
  }
}

/// The form in which a learned scale multiplies similarities: the parameter itself, as in CLIP-KD (2.66 at the start),
/// or its exponential (14.3 at the start).
public enum CrossScaleForm: String, CaseIterable, Schedulable {
  case raw, exp

  /// The key of the form in the run file, which the terms share.
  static let key = "icl_scale"

  func scale<S: Scalar>(_ parameter: S) -> S { self == .raw ? parameter : S.exp(parameter) }
}
