public import Settings
public import Tensor

/// The settings of CLIP's own loss.
public struct ContrastiveSettings: TermSettings {
  public static let key = "clip"
  public static let needs: TermNeeds = []
  public var weight = Scheduled(1.0)

  public func products(_ size: ObjectiveSize) -> TermProducts { TermProducts(gradients: size.student) }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> {
    Contrastive(parameters.tiles)
  }
}

/// CLIP's symmetric cross entropy over the global batch.
///
/// L = 1/(2N) Σ_i [ ℓ^I_i + ℓ^T_i ], ℓ^I_i = lse_j(α u_i·v_j) − α u_i·v_i, ℓ^T_i = lse_j(α v_i·u_j) − α v_i·u_i, for
/// unit rows u, v and a scale α.
///
/// Each rank computes the logits of its own rows against all rows. The ranks then exchange only the two vectors of
/// log-sum-exps, with which each rank can compute the gradient of its own rows: with P and C the softmaxes along rows
/// and columns of Z = α U Vᵀ, and weights a of the images' and w of the captions' cross entropies (1/2N each in L
/// itself), G_ij = a_i (P_ij − [i = j]) + w_j (C_ij − [i = j]), dU = α G V, dV = α Gᵀ U and dα = Σ G · U Vᵀ.
final class Contrastive<S: Scalar>: DistillationTerm {
  var weights: Modalities<GlobalRows<S>>? { rowWeight }
  var localLosses: Modalities<Tensor<S>>? { losses }

  private let tiles: Tiles<S>
  private let lse = Modalities { GlobalRows<S>() }
  private let memory = Modalities { Buffer<S>() }
  private let rowWeight = Modalities { GlobalRows<S>() }
  private var batch = LocalBatch(rows: 0..<0, count: 0)
  private var share = 0.0

  init(_ tiles: Tiles<S>) { self.tiles = tiles }

  /// ℓ of this rank's images and captions [b].
  private var losses: Modalities<Tensor<S>> { memory.map { $0.tensor(Shape(batch.rows.count)) } }

  func rowLosses(_ context: LossContext<S>) throws {
    share = try measure(context.student, scale: context.scale, context)
  }

  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    TermOutcome(
      share: context.multipliedShare(of: ContrastiveSettings.key, losses) ?? share,
      scaleGradient: accumulate(context.student, scale: context.scale))
  }

  /// Computes the cross entropies of any unit rows and returns this rank's share of L.
  func measure(_ rows: Modalities<UnitRows<S>>, scale: S, _ context: LossContext<S>) throws -> Double {
    batch = context.batch
    for modality in Modality.allCases {
      let (anchors, keys) = (rows[modality], rows[modality.other])
      let (lse, losses) = (self.lse[modality], self.losses[modality])
      lse.place(batch)
      tiles.normalizers(anchors.own, keys.all, scale: scale, into: lse.own)
      for i in 0..<losses.count {
        losses[i] = lse.own[i] - scale * S(dot(anchors.own.rows(i..<i + 1), keys.own.rows(i..<i + 1)))
      }
      try lse.gather(context.ranks)
    }
    return (sum(losses.image) + sum(losses.text)) / Double(2 * batch.count)
  }

  /// Adds the gradient of Σ a_i ℓ^I_i + Σ w_j ℓ^T_j to this rank's rows, and returns this rank's share of the scale's
  /// gradient.
  func accumulate(_ rows: Modalities<UnitRows<S>>, scale: S) -> Double {
    let slopes = Modality.allCases.map { anchors in
      tiles.contrastive(
        rows[anchors], rows[anchors.other].all, scale: scale, (lse[anchors].own, rowWeight[anchors].own),
        across: (lse[anchors.other].all, rowWeight[anchors.other].all), batch)
    }
    return slopes[0]
  }
}

extension Tiles {
  /// Adds the gradient of Σ weight_i ℓ_i, the cross entropies of anchors whose partners are the keys of the same place,
  /// to the anchors; with `across` also that of the keys' cross entropies. Returns the gradient of the scale.
  func contrastive(
    _ anchors: UnitRows<S>, _ keys: Tensor<S>, scale: S, _ own: (lse: Tensor<S>, weight: Tensor<S>),
    across: (lse: Tensor<S>, weight: Tensor<S>)? = nil, _ batch: LocalBatch
  ) -> Double {
    gradient(anchors.own, keys, scale: scale, into: anchors.gradient) { tile, rows, columns, along in
      contrastiveGradient(
        tile, scale: scale, rowLSE: own.lse.slice(rows), rowWeight: own.weight.slice(rows),
        columns: across.map { ($0.lse.slice(columns), $0.weight.slice(columns)) },
        diagonal: batch.diagonal(rows, columns), along: along)
    }
  }
}
