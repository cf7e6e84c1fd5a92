public import Settings
public import Tensor

/// The settings of CLIP's own loss.
public struct ContrastiveSettings: TermSettings {
  public static let key = "clip"
  public static let needs: TermNeeds = []

  public var weight = Scheduled(1.0)

  public init() {}

  public func products(_ size: ObjectiveSize) -> TermProducts {
    TermProducts(similarities: size.student, gradients: size.student)
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> {
    ContrastiveTerm(Contrastive(parameters.tiles))
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
final class Contrastive<S: Scalar> {
  private let tiles: Tiles<S>
  private let lse = Modalities(image: RowVector<S>(), text: RowVector<S>())
  private let losses = Modalities(image: Buffer<S>(), text: Buffer<S>())
  private let sums = Buffer<S>()
  private var batch = LocalBatch(rows: 0..<0, count: 0)

  init(_ tiles: Tiles<S>) { self.tiles = tiles }

  /// ℓ of this rank's images and captions [b], after `measure`.
  var own: Modalities<Tensor<S>> {
    Modalities(image: losses.image.tensor(Shape(batch.rows.count)), text: losses.text.tensor(Shape(batch.rows.count)))
  }

  /// First pass: computes the cross entropies and returns this rank's share of L.
  func measure(
    _ rows: Modalities<UnitRows<S>>, scale: S, _ batch: LocalBatch, _ ranks: some Ranks<S>
  ) throws -> Double {
    self.batch = batch
    try measure(rows.image, rows.text, scale, lse.image, own.image, ranks)
    try measure(rows.text, rows.image, scale, lse.text, own.text, ranks)
    return (sum(own.image) + sum(own.text)) / Double(2 * batch.count)
  }

  private func measure(
    _ anchors: UnitRows<S>, _ keys: UnitRows<S>, _ scale: S, _ lse: RowVector<S>, _ losses: Tensor<S>,
    _ ranks: some Ranks<S>
  ) throws {
    lse.place(batch)
    tiles.normalizers(anchors.own, keys.all, scale: scale, into: lse.own, sums: sums)
    for i in 0..<losses.count {
      losses[i] = lse.own[i] - scale * S(dot(anchors.own.rows(i..<i + 1), keys.own.rows(i..<i + 1)))
    }
    try lse.gather(ranks)
  }

  /// Second pass: adds the gradient of Σ a_i ℓ^I_i + Σ w_j ℓ^T_j to this rank's rows, and returns this rank's share of
  /// the scale's gradient.
  func accumulate(
    _ rows: Modalities<UnitRows<S>>, scale: S, weights: Modalities<RowVector<S>>
  ) -> Double {
    let slope = accumulate(rows.image, rows.text, scale, lse, weights)
    _ = accumulate(rows.text, rows.image, scale, lse.swapped, weights.swapped)
    return slope
  }

  private func accumulate(
    _ anchors: UnitRows<S>, _ keys: UnitRows<S>, _ scale: S, _ lse: Modalities<RowVector<S>>,
    _ weights: Modalities<RowVector<S>>
  ) -> Double {
    let first = batch.first
    return tiles.gradient(anchors.own, keys.all, scale: scale, into: anchors.gradient) { tile, rows, columns, along in
      contrastiveGradient(
        tile, scale: scale, rowLSE: lse.image.own.slice(rows), rowWeight: weights.image.own.slice(rows),
        columns: (lse.text.all.slice(columns), weights.text.all.slice(columns)),
        diagonal: first + rows.lowerBound - columns.lowerBound, along: along)
    }
  }
}

/// CLIP's loss between the student's unprojected images and captions.
private final class ContrastiveTerm<S: Scalar>: DistillationTerm {
  var weights: Modalities<RowVector<S>>? { rowWeight }
  var localLosses: Modalities<Tensor<S>>? { contrastive.own }

  private let contrastive: Contrastive<S>
  private let rowWeight = Modalities(image: RowVector<S>(), text: RowVector<S>())
  private var share = 0.0

  init(_ contrastive: Contrastive<S>) { self.contrastive = contrastive }

  func rowLosses(_ context: LossContext<S>) throws {
    share = try contrastive.measure(context.student, scale: context.scale, context.batch, context.ranks)
    rowWeight.set(context.share(of: context.options[ContrastiveSettings.self].weight.wrappedValue), context.batch)
  }

  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    context.scaleGradient += contrastive.accumulate(context.student, scale: context.scale, weights: rowWeight)
    return TermOutcome(context.options[ContrastiveSettings.self], share: share)
  }
}

extension Tiles {
  /// Sets lse_i to ln Σ_j e^(scale a_i·b_j). With `leavingOut`, the global place of the first local row, each row
  /// leaves itself out of its sum.
  func normalizers(
    _ own: Tensor<S>, _ all: Tensor<S>, scale: S, into lse: Tensor<S>, sums: Buffer<S>, leavingOut first: Int? = nil
  ) {
    let sum = sums.tensor(lse.shape)
    fill(lse, -S.infinity)
    fill(sum, 0)
    forEach(own.rows, all.rows) { rows, columns in
      let tile = products(own.rows(rows), all.rows(columns))
      foldLogSumExp(
        tile, scale: scale, maximum: lse.slice(rows), sum: sum.slice(rows),
        leavingOut: first.map { $0 + rows.lowerBound - columns.lowerBound })
    }
    finishLogSumExp(maximum: lse, sum: sum)
  }
}
