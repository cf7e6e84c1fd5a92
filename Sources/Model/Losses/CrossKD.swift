public import Settings
public import Tensor

/// The settings of cross-KD.
public struct CrossKDSettings: TermSettings {
  public static let key = "cross_kd"
  public static let needs: TermNeeds = [.teacherSoftmaxes, .projection, .teacherPairs]
  public var weight = Scheduled(0.0)
  /// The form of the learned scale γ, which the term shares with ICL.
  @Scheduled public var form = CrossScaleForm.raw

  public mutating func options(_ map: FieldMap) { map.field(CrossScaleForm.key, &$form) }
  public func products(_ size: ObjectiveSize) -> TermProducts { TermProducts(gradients: size.teacher) }
  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> { CrossKD(parameters) }
}

/// CLIP-KD's cross-KD: student anchors rank the teacher's rows of the other modality as the teacher's own anchors do.
///
/// L = 1/(2N) Σ_i [ KL(softmax_j β x_i·y_j ‖ softmax_j γ ũ_i·y_j) + KL(softmax_j β y_i·x_j ‖ softmax_j γ ṽ_i·x_j) ];
/// G = (1/2N)(p − q), dŨ = γ G Y. γ is the scale of ICL. Keys are the first teacher's rows; targets are the mean of all
/// teachers' softmaxes.
final class CrossKD<S: Scalar>: DistillationTerm {
  var weights: Modalities<GlobalRows<S>>? { rowWeight }
  var localLosses: Modalities<Tensor<S>>? { strips.map(\.rows.divergence) }

  private let gamma: CrossScale<S>
  private let strips: Modalities<DivergenceStrip<S>>
  private let rowWeight = Modalities { GlobalRows<S>() }

  init(_ parameters: ObjectiveParameters<S>) {
    gamma = parameters.sharedCrossScale()
    strips = Modalities { DivergenceStrip(parameters.tiles) }
  }

  func rowLosses(_ context: LossContext<S>) {
    let scale = gamma.value(context.options[CrossKDSettings.self].form)
    for modality in Modality.allCases {
      let teachers = context.teachers.map { $0.strip(modality, modality.other) }
      strips[modality].fold((context.projected[modality].own, teachers[0].all), scale: scale, teachers, context.batch)
    }
  }

  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    let scale = gamma.value(context.options[CrossKDSettings.self].form)
    let parts = Modality.allCases.map { modality in
      let keys = context.teachers[0].rows[modality.other].all
      return (
        share: sum(strips[modality].rows.divergence) / Double(2 * context.batch.count),
        slope: strips[modality].accumulate(context.projected[modality], keys, scale: scale, rowWeight[modality])
      )
    }
    gamma.gradient += parts[0].slope + parts[1].slope
    return TermOutcome(share: parts[0].share + parts[1].share)
  }
}
