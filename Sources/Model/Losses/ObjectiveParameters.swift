internal import RealModule
public import Tensor

/// What the terms of an objective are made of: its widths, the tiles that they share, and the parameters that it has of
/// its own.
///
/// These parameters (heads between widths, learned scales) are declared in the student's store under the prefix
/// `objective.`, so that they are reduced, updated, saved and resumed like any other.
public final class ObjectiveParameters<S: Scalar> {
  /// The prefix of the names of the objective's own parameters, which are no part of the model.
  static var prefix: String { "objective." }

  let tiles: Tiles<S>
  let studentWidth: Int
  /// The student's where there is no teacher.
  let teacherWidth: Int

  private let store: ParameterStore<S>
  private(set) var crossScale: CrossScale<S>?

  init(_ store: ParameterStore<S>, tiles: Tiles<S>, student: Int, teacher: Int) {
    (self.store, self.tiles, studentWidth, teacherWidth) = (store, tiles, student, teacher)
  }

  func declare(_ name: String, _ shape: Shape, _ initial: Initial) -> Parameter<S> {
    store.declare("\(Self.prefix)\(name)", shape, initial)
  }

  /// Declares an affine map between widths, as PyTorch initialises one.
  func linear(_ name: String, from inputs: Int, to outputs: Int) -> Linear<S> {
    let bound = Initial.uniform(1 / Double(inputs).squareRoot())
    return Linear(
      weight: declare("\(name).weight", Shape(outputs, inputs), bound),
      bias: declare("\(name).bias", Shape(outputs), bound))
  }

  /// Declares a scale that begins where CLIP's own does, at ln(1/0.07): CLIP-KD uses it as it is.
  func scale(_ name: String) -> Parameter<S> { declare(name, Shape(), .constant(Double.log(1 / 0.07))) }

  /// The scale γ that the terms between student anchors and teacher keys share.
  func sharedCrossScale() -> CrossScale<S> {
    let shared = crossScale ?? CrossScale(scale("cross_logit_scale"))
    crossScale = shared
    return shared
  }
}
