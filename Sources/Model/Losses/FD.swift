public import Settings
public import Tensor

/// The settings of feature distillation.
public struct FDSettings: TermSettings {
  public static let key = "fd"
  public static let needs: TermNeeds = [.teacherEmbeddings, .projection]
  public var weight = Scheduled(0.0)

  /// ‖ũ − x‖² is 2 (1 − cosine), and its mean over the width d divides by d.
  public func cosineFactor(teacherWidth: Int) -> Double? { 2 / Double(teacherWidth) }
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
    let teacher = context.teachers[0].rows
    let entries = Double(context.batch.count * teacher.image.own.columns)
    let factor = S(context.options[FDSettings.self].weight.wrappedValue / entries)
    let distances = Modality.allCases.map { modality in
      let student = context.projected[modality]
      return squaredDistance(
        student.own, to: teacher[modality].own, factor: factor,
        rowFactors: context.rowFactors(of: FDSettings.key, modality), gradient: student.gradient)
    }
    return TermOutcome(share: (distances[0] + distances[1]) / entries)
  }
}
