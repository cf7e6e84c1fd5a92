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
/// With pair weights t_ij = |p_ij − q_ij| and their sum T over all pairs, both held constant, the loss is
/// (N/T) Σ_ij t_ij q_ij ln(q_ij/p_ij), which may be negative.
final class Intra<S: Scalar> {
  let modality: Modality
  /// g, which the caller sets for the local rows before `accumulate`.
  let factor = GlobalRows<S>()
  /// L, which the caller sets; the same on every rank.
  var value = 0.0
  private let tiles: Tiles<S>
  private let strip: DivergenceStrip<S>
  private let number = GlobalRows<S>()
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

  /// One of the three vectors of sums [b] that a further pass computes.
  private func sums(_ index: Int) -> Tensor<S> {
    let b = batch.rows.count
    return memory.tensor(Shape(3 * b)).slice(index * b..<(index + 1) * b)
  }

  /// First pass: computes the divergences of this rank's anchors, and the sums that the gradient needs.
  func measure(
    _ student: UnitRows<S>, scale: S, _ teachers: [TeacherStrip<S>], _ options: IntraOptions, _ batch: LocalBatch
  ) {
    self.batch = batch
    form =
      switch (options.granularity, options.divergence) {
      case (.pair, _): .pairs
      case (_, .forward): .forward
      case (_, .reverse): .reverse
      case (_, .jensenShannon): .jensenShannon
      }
    for vector in [number, factor] { vector.place(batch) }
    let own = (student.own, student.all)
    strip.fold(own, scale: scale, teachers, batch, masked: options.diagonal == .mask, reversed: form == .reverse)
    switch form {
    case .forward: fill(number.own, 0)
    case .reverse: copy(divergence, into: number.own)
    case .jensenShannon, .pairs:
      // These sums need the finished log-sum-exps.
      for index in 0..<3 { fill(sums(index), 0) }
      strip.forEachTile(own, scale: scale) { tile, rows in
        intraSums(
          tile, studentLSE: strip.studentLSE.own.slice(rows), teacherLSE: strip.teacherLSE.own.slice(rows), form: form,
          into: (sums(0).slice(rows), sums(1).slice(rows), sums(2).slice(rows)))
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

  /// Second pass: adds Σ g_i ∂D_i to the gradient of this rank's rows, and returns this rank's share of the student
  /// scale's gradient.
  func accumulate(_ student: UnitRows<S>, scale: S, _ ranks: some Ranks<S>) throws -> Double {
    try strip.gather(ranks, with: [number, factor])
    let anchors = IntraAnchors(
      studentLSE: strip.studentLSE.all, teacherLSE: strip.teacherLSE.all, factor: factor.all, number: number.all)
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
