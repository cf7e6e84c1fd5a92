public import Settings
public import Tensor

/// The settings of contrastive relational distillation.
public struct CRDSettings: TermSettings {
  public static let key = "crd"
  public static let needs: TermNeeds = [.teacherSoftmaxes, .teacherPairs]
  public var weight = Scheduled(0.0)

  public func products(_ size: ObjectiveSize) -> TermProducts {
    TermProducts(similarities: size.student + size.teacher, gradients: size.student)
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> { CRD(parameters.tiles) }
}

/// Contrastive relational distillation (CLIP-KD): the student's cross-modal softmaxes follow the teacher's.
///
/// L = 1/(2N) Σ_i [ KL(softmax_j β x_i·y_j ‖ softmax_j α u_i·v_j) + the same for captions against images ]. With P and
/// C the softmaxes along rows and columns of Z = α U Vᵀ, P^q and C^q the teacher's, and weights a of the images' and w
/// of the captions' rows (1/2N each in L itself), ∂L/∂Z is G_ij = a_i (P − P^q)_ij + w_j (C − C^q)_ij. The teacher has
/// no gradient.
final class CRD<S: Scalar>: DistillationTerm {
  var weights: Modalities<GlobalRows<S>>? { rowWeight }
  var localLosses: Modalities<Tensor<S>>? { strips.map(\.rows.divergence) }

  private let strips: Modalities<DivergenceStrip<S>>
  private let rowWeight = Modalities { GlobalRows<S>() }
  private var share = 0.0

  init(_ tiles: Tiles<S>) { strips = Modalities { DivergenceStrip(tiles) } }

  func rowLosses(_ context: LossContext<S>) throws {
    share = try measure(scale: context.scale, context.teachers, context)
  }

  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    TermOutcome(
      share: context.multipliedShare(of: CRDSettings.key, strips.map(\.rows.divergence)) ?? share,
      scaleGradient: accumulate(scale: context.scale, context))
  }

  /// Computes the divergences at these scales and returns this rank's share of L.
  func measure(scale: S, _ teachers: [Teacher<S>], _ context: LossContext<S>) throws -> Double {
    for modality in Modality.allCases {
      strips[modality].fold(
        (context.student[modality].own, context.student[modality.other].all), scale: scale,
        teachers.map { $0.strip(modality, modality.other) }, context.batch)
    }
    for strip in strips.both { try strip.gather(context.ranks) }
    return mean(strips.map(\.rows.divergence), context.batch)
  }

  /// Returns this rank's share of the teacher's mean entropy −Σ q ln q, over both modalities, after `measure`.
  func entropy(_ batch: LocalBatch) -> Double { mean(strips.map(\.rows.entropy), batch) }

  private func mean(_ rows: Modalities<Tensor<S>>, _ batch: LocalBatch) -> Double {
    (sum(rows.image) + sum(rows.text)) / Double(2 * batch.count)
  }

  /// Adds the gradient of Σ a_i KL_i + Σ w_j KL_j to this rank's rows, and returns this rank's share of the student
  /// scale's gradient, of which either modality's anchors have the whole.
  func accumulate(scale: S, _ context: LossContext<S>) -> Double {
    let slopes = Modality.allCases.map { anchors in
      strips[anchors].accumulate(
        context.student[anchors], context.student[anchors.other].all, scale: scale, rowWeight[anchors],
        across: (strips[anchors.other], rowWeight[anchors.other]))
    }
    return slopes[0]
  }
}
