internal import Tensor

/// One modality's part of intra-modal divergence-weighted distillation: each anchor's softmax over the other images (or
/// the other captions) follows the teacher's.
///
///     z_ij = s u_i·u_j     y_ij = t x_i·x_j     p_i = softmax_j z_ij     q_i = softmax_j y_ij     (j ≠ i under `mask`)
///     D_i = KL(q_i ‖ p_i), or KL(p_i ‖ q_i), or the Jensen-Shannon divergence
///
/// For a loss of the divergences with g_i = ∂L/∂D_i and A_ij = ∂D_i/∂z_ij, G_ij = g_i A_ij. Because U holds both
/// queries and keys, dU = s (G + Gᵀ) U and ds = Σ G · U Uᵀ. By symmetry (Gᵀ)_ij needs only a few numbers of each anchor
/// of other ranks (its log-sum-exps, g and one more), so that neither N × N matrices nor gradients are exchanged.
///
/// Pair weights are t_ij = |p_ij − q_ij| over their sum. With e_ij = q_ij ln(q_ij/p_ij), T_i = Σ_j t_ij and
/// A_i = Σ_j t_ij e_ij, the loss is L = N Σ_i A_i / Σ_i T_i, or Σ_i A_i/T_i if each row's weights sum to 1; it may be
/// negative. g_i is N/Σ T, or 1/T_i. With constant weights G_ij = g_i (p_ij Σ_k t_ik q_ik − t_ij q_ij). With the
/// weights' gradient, R_i = Σ A/Σ T, or A_i/T_i, and s_ij the sign of p_ij − q_ij,
///
///     b_ij = s_ij p_ij (e_ij − R_i) − t_ij q_ij     G_ij = g_i (b_ij − p_ij Σ_k b_ik)
final class Intra<S: Scalar> {
  let modality: Modality
  /// g, which the caller sets for the local rows before `accumulate`; with pair weights by `weigh`.
  let factor = GlobalRows<S>()
  /// L, which the caller sets; the same on every rank.
  var value = 0.0
  private let tiles: Tiles<S>
  private let strip: DivergenceStrip<S>
  private let number = GlobalRows<S>()
  private let ratio = GlobalRows<S>()
  private let memory = Buffer<S>()
  private var batch = LocalBatch(rows: 0..<0, count: 0)
  private var form = IntraForm.forward

  init(_ modality: Modality, _ tiles: Tiles<S>) {
    (self.modality, self.tiles, strip) = (modality, tiles, DivergenceStrip(tiles))
  }

  /// D of this rank's anchors [b], after `measure`.
  var divergence: Tensor<S> { strip.rows.divergence }
  /// The sums Σ_j t_ij q_ij ln(q_ij/p_ij) and Σ_j t_ij of this rank's anchors [b], after `measure` with pair weights.
  var pairs: (loss: Tensor<S>, weight: Tensor<S>) { (sums(1), sums(2)) }

  /// One of the four vectors of sums [b] that a further pass computes.
  private func sums(_ index: Int) -> Tensor<S> {
    let b = batch.rows.count
    return memory.tensor(Shape(4 * b)).slice(index * b..<(index + 1) * b)
  }

  /// First pass: computes the divergences of this rank's anchors, and the sums that the gradient needs.
  func measure(
    _ student: UnitRows<S>, scale: S, _ teachers: [TeacherStrip<S>], _ options: IntraOptions, _ batch: LocalBatch
  ) {
    self.batch = batch
    form =
      switch (options.granularity, options.divergence) {
      case (.pair, _): options.weightGradient ? .pairsWithGradient : .pairs
      case (_, .forward): .forward
      case (_, .reverse): .reverse
      case (_, .jensenShannon): .jensenShannon
      }
    for vector in gathered { vector.place(batch) }
    let own = (student.own, student.all)
    strip.fold(own, scale: scale, teachers, batch, masked: options.diagonal == .mask, reversed: form == .reverse)
    switch form {
    case .forward: fill(number.own, 0)
    case .reverse: copy(divergence, into: number.own)
    case .jensenShannon, .pairs, .pairsWithGradient:
      // These sums need the finished log-sum-exps.
      for index in 0..<4 { fill(sums(index), 0) }
      strip.forEachTile(own, scale: scale) { tile, rows in
        intraSums(
          tile, studentLSE: strip.studentLSE.own.slice(rows), teacherLSE: strip.teacherLSE.own.slice(rows), form: form,
          into: (sums(0).slice(rows), sums(1).slice(rows), sums(2).slice(rows), sums(3).slice(rows)))
      }
      copy(sums(0), into: number.own)
    }
    guard form == .jensenShannon else { return }
    let (divergence, ofStudent, ofTeacher) = (self.divergence, sums(0), sums(1))
    for i in 0..<divergence.count {
      let mean = (ofStudent[i] + ofTeacher[i]) / 2
      divergence[i] = mean < 0 ? 0 : mean  // NaN stays NaN
    }
  }

  /// The vectors that gradients across the columns need of all ranks.
  private var gathered: [GlobalRows<S>] { [number, factor] + (form == .pairsWithGradient ? [ratio] : []) }

  /// Sets g of this rank's anchors, and with the weights' gradient R, for pair weights.
  func weigh(_ factors: [Double], ratios: [Double]) {
    for i in factors.indices {
      factor.own[i] = S(factors[i])
      guard form == .pairsWithGradient else { continue }
      ratio.own[i] = S(ratios[i])
      number.own[i] = sums(0)[i] - S(ratios[i]) * sums(3)[i]
    }
  }

  /// Second pass: adds Σ g_i ∂D_i to the gradient of this rank's rows, and returns this rank's share of the student
  /// scale's gradient.
  func accumulate(_ student: UnitRows<S>, scale: S, _ ranks: some Ranks<S>) throws -> Double {
    try strip.gather(ranks, with: gathered)
    let anchors = IntraAnchors(
      studentLSE: strip.studentLSE.all, teacherLSE: strip.teacherLSE.all, factor: factor.all, number: number.all,
      ratio: form == .pairsWithGradient ? ratio.all : nil)
    let own = anchors.slice(batch.rows)
    return tiles.gradient(student.own, student.all, scale: scale, into: student.gradient) {
      products, rows, columns, along in
      let logits = strip.targets.logits(rows, columns, seenBy: strip.targets)
      intraGradient(
        strip.tile(products, scale: scale, logits.rows, rows, columns), rows: own.slice(rows),
        columns: anchors.slice(columns), columnTeacher: logits.columns, form: form, along: along)
    }
  }
}
