internal import Tensor

/// Feature distillation (CLIP-KD): the student's rows, in the teacher's width, lie where the teacher's do.
///
/// L = 1/(N d) Σ_i ( ‖ũ_i − x_i‖² + ‖ṽ_i − y_i‖² ); dũ = 2 (ũ − x)/(N d). Nothing of other ranks is needed.
enum FD {
  /// Adds weight · ∂L to this rank's rows; returns this rank's share of L.
  static func accumulate<S: Scalar>(
    _ student: Modalities<UnitRows<S>>, _ teacher: Modalities<UnitRows<S>>, weight: Double, _ share: BatchShare
  ) -> Double {
    let entries = Double(share.count * teacher.image.own.columns)
    let factor = S(weight / entries)
    let image = squaredDistance(
      student.image.own, to: teacher.image.own, factor: factor, gradient: student.image.gradient)
    let text = squaredDistance(
      student.text.own, to: teacher.text.own, factor: factor, gradient: student.text.gradient)
    return (image + text) / entries
  }
}
