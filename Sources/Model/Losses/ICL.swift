public import Settings
public import Tensor

/// The settings of interactive contrastive learning.
public struct ICLSettings: TermSettings {
  public static let key = "icl"
  public static let needs: TermNeeds = [.teacherEmbeddings, .projection, .teacherPairs]
  public var weight = Scheduled(0.0)
  /// The form of the term's learned scale γ.
  @Scheduled public var form = CrossScaleForm.raw

  public mutating func options(_ map: FieldMap) { map.field(CrossScaleForm.key, &$form) }
  public func products(_ size: ObjectiveSize) -> TermProducts { TermProducts(gradients: size.teacher) }
  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> { ICL(parameters) }
}

/// Interactive contrastive learning (CLIP-KD): student anchors find their partner among the teacher's rows of the other
/// modality.
///
/// L = 1/(2N) Σ_i [ lse_j(γ ũ_i·y_j) − γ ũ_i·y_i + lse_j(γ ṽ_i·x_j) − γ ṽ_i·x_i ]. The keys are the teacher's and have
/// no gradient, so G_ij = (1/2N)(softmax_ij − [i = j]), dŨ = γ G Y, and each rank needs only its own anchors.
final class ICL<S: Scalar>: DistillationTerm {
  var weights: Modalities<GlobalRows<S>>? { rowWeight }

  private let tiles: Tiles<S>
  private let gamma: CrossScale<S>
  private let lse = Modalities { Buffer<S>() }
  private let rowWeight = Modalities { GlobalRows<S>() }
  private var share = 0.0

  init(_ parameters: ObjectiveParameters<S>) { (tiles, gamma) = (parameters.tiles, parameters.sharedCrossScale()) }

  func rowLosses(_ context: LossContext<S>) {
    let scale = gamma.value(context.options[ICLSettings.self].form)
    let losses = Modality.allCases.map { modality in
      let (anchors, keys) = (context.projected[modality].own, context.teachers[0].rows[modality.other])
      let lse = self.lse[modality].tensor(Shape(anchors.rows))
      tiles.normalizers(anchors, keys.all, scale: scale, into: lse)
      return (0..<anchors.rows).reduce(0.0) {
        $0 + Double(lse[$1]) - Double(scale) * dot(anchors.rows($1..<$1 + 1), keys.own.rows($1..<$1 + 1))
      }
    }
    share = (losses[0] + losses[1]) / Double(2 * context.batch.count)
  }

  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    let scale = gamma.value(context.options[ICLSettings.self].form)
    let slopes = Modality.allCases.map { modality in
      let anchors = context.projected[modality]
      return tiles.contrastive(
        anchors, context.teachers[0].rows[modality.other].all, scale: scale,
        (lse[modality].tensor(Shape(anchors.own.rows)), rowWeight[modality].own), context.batch)
    }
    gamma.gradient += slopes[0] + slopes[1]
    return TermOutcome(share: share)
  }
}
