public import Settings
public import Tensor

/// The settings of feature distillation.
public struct FDSettings: TermSettings {
  public static let key = "fd"
  public static let needs: TermNeeds = [.teacherEmbeddings, .projection]

  public var weight = Scheduled(0.0)

  public init() {}

  public func products(_ size: ObjectiveSize) -> TermProducts { TermProducts(similarities: 0, gradients: 0) }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> { FD<S>() }
}

/// Feature distillation (CLIP-KD): the squared distance of the student's rows, in the teacher's width, to the
/// teacher's rows.
///
/// L = 1/(N d) Σ_i ( ‖ũ_i − x_i‖² + ‖ṽ_i − y_i‖² ); dũ = 2 (ũ − x)/(N d). The term needs no data of other ranks, and
/// computes value and gradient in one pass.
final class FD<S: Scalar>: DistillationTerm {
  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    let settings = context.options[FDSettings.self]
    let (student, teacher) = (context.projected, context.teachers[0].rows)
    let entries = Double(context.batch.count * teacher.image.own.columns)
    let factor = S(settings.weight.wrappedValue / entries)
    let image = squaredDistance(
      student.image.own, to: teacher.image.own, factor: factor, gradient: student.image.gradient)
    let text = squaredDistance(
      student.text.own, to: teacher.text.own, factor: factor, gradient: student.text.gradient)
    return TermOutcome(settings, share: (image + text) / entries)
  }
}
