public import Settings
public import Tensor

/// The settings of cross-KD.
public struct CrossKDSettings: TermSettings {
  public static let key = "cross_kd"
  public static let needs: TermNeeds = [.teacherSoftmaxes, .projection]

  public var weight = Scheduled(0.0)
  /// The form of the learned scale γ, which the term shares with ICL.
  @Scheduled public var form = CrossScaleForm.raw

  public init() {}

  public mutating func options(_ map: FieldMap) { map.field(CrossScaleForm.key, &$form) }

  public func products(_ size: ObjectiveSize) -> TermProducts {
    TermProducts(similarities: size.teacher, gradients: size.teacher)
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> {
    CrossKD(parameters)
  }
}

/// CLIP-KD's cross-KD: student anchors rank the teacher's rows of the other modality as the teacher's own anchors do.
///
/// L = 1/(2N) Σ_i [ KL(softmax_j β x_i·y_j ‖ softmax_j γ ũ_i·y_j) + KL(softmax_j β y_i·x_j ‖ softmax_j γ ṽ_i·x_j) ];
/// G = (1/2N)(p − q), dŨ = γ G Y. γ is the scale of ICL. Keys are the first teacher's rows; targets are the mean of all
/// teachers' softmaxes.
final class CrossKD<S: Scalar>: DistillationTerm {
  var weights: Modalities<RowVector<S>>? { rowWeight }
  var localLosses: Modalities<Tensor<S>>? {
    Modalities(image: strips.image.rows.divergence, text: strips.text.rows.divergence)
  }

  private let rowWeight = Modalities(image: RowVector<S>(), text: RowVector<S>())
  private let gamma: CrossScale<S>
  private let strips: Modalities<DivergenceStrip<S>>

  init(_ parameters: ObjectiveParameters<S>) {
    gamma = parameters.sharedCrossScale()
    strips = Modalities(image: DivergenceStrip(parameters.tiles), text: DivergenceStrip(parameters.tiles))
  }

  func rowLosses(_ context: LossContext<S>) {
    let settings = context.options[CrossKDSettings.self]
    let (scale, teachers, batch) = (gamma.value(settings.form), context.teachers, context.batch)
    let student = context.projected
    let (image, text) = (teachers.map(\.across.image), teachers.map(\.across.text))
    strips.image.fold((student.image.own, image[0].all), scale: scale, image, batch)
    strips.text.fold((student.text.own, text[0].all), scale: scale, text, batch)
    rowWeight.set(context.share(of: settings.weight.wrappedValue), batch)
  }

  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    let settings = context.options[CrossKDSettings.self]
    let (scale, student, keys) = (gamma.value(settings.form), context.projected, context.teachers[0].rows)
    let n = Double(2 * context.batch.count)
    let share = sum(strips.image.rows.divergence) / n + sum(strips.text.rows.divergence) / n
    let image = strips.image.accumulate(student.image, keys.text.all, scale: scale, rowWeight.image, across: nil)
    let text = strips.text.accumulate(student.text, keys.image.all, scale: scale, rowWeight.text, across: nil)
    gamma.add(image + text)
    return TermOutcome(settings, share: share)
  }
}
