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
  private let tiles: Tiles<S>
  private let studentLSE = RowVector<S>()
  private let teacherLSE = RowVector<S>()
  private let number = RowVector<S>()
  private let targets: SoftTargets<S>
  private let scratch = Buffer<S>()
  private let sums = Buffer<S>()
  private var batch = LocalBatch(rows: 0..<0, count: 0)
  private var state: DivergenceRows<S>?
  private var form = IntraForm.forward
  private var masked = true

  /// g, which the caller sets for the local rows before `accumulate`.
  let factor = RowVector<S>()

  init(_ tiles: Tiles<S>) {
    self.tiles = tiles
    targets = SoftTargets(tiles)
  }

  /// D of this rank's anchors [b], after `measure`.
  var divergence: Tensor<S> {
    guard let state else { preconditionFailure("divergences are asked for before they are measured") }
    return state.divergence
  }

  /// The sums Σ_j t_ij q_ij ln(q_ij/p_ij) and Σ_j t_ij of this rank's anchors [b], after `measure` with pair weights.
  var pairs: (loss: Tensor<S>, weight: Tensor<S>) {
    let b = batch.rows.count
    let memory = sums.tensor(Shape(3 * b))
    return (memory.slice(b..<2 * b), memory.slice(2 * b..<3 * b))
  }

  /// First pass: computes the divergences of this rank's anchors, and the sums that the gradient needs.
  func measure(
    _ student: UnitRows<S>, scale: S, _ teachers: [TeacherStrip<S>], _ options: IntraOptions, _ batch: LocalBatch
  ) {
    self.batch = batch
    masked = options.diagonal == .mask
    form = options.granularity == .pair ? .pairs : options.divergence.form
    for vector in [studentLSE, teacherLSE, number, factor] { vector.place(batch) }
    targets.place(teachers, masked: masked, batch)
    let state = DivergenceRows(
      count: batch.rows.count, scratch: scratch, studentLSE: studentLSE.own, teacherLSE: teacherLSE.own)
    self.state = state
    let isReversed = form == .reverse
    forEachTile(student) { c, r, rows, diagonal in
      foldDivergence(
        SimilarityTile(
          c, studentScale: scale, r, teacherScale: targets.scale, leavingOut: masked ? diagonal : nil),
        rows: rows, of: state, reversed: isReversed)
    }
    finishDivergence(state, reversed: isReversed)
    switch form {
    case .forward: fill(number.own, 0)
    case .reverse: copy(state.divergence, into: number.own)
    case .jensenShannon, .pairs: sumAgain(student, scale, state)
    }
  }

  /// Computes the sums that need the finished log-sum-exps, in another pass over the tiles.
  private func sumAgain(_ student: UnitRows<S>, _ scale: S, _ state: DivergenceRows<S>) {
    let b = batch.rows.count
    let memory = sums.tensor(Shape(3 * b))
    fill(memory, 0)
    forEachTile(student) { c, r, rows, diagonal in
      func part(_ index: Int) -> Tensor<S> { memory.slice(index * b..<(index + 1) * b).slice(rows) }
      intraSums(
        SimilarityTile(
          c, studentScale: scale, r, teacherScale: targets.scale, leavingOut: masked ? diagonal : nil),
        studentLSE: studentLSE.own.slice(rows), teacherLSE: teacherLSE.own.slice(rows), form: form,
        into: (part(0), part(1), part(2)))
    }
    copy(memory.slice(0..<b), into: number.own)
    guard form == .jensenShannon else { return }
    for i in 0..<b {
      let divergence = (memory[i] + memory[b + i]) / 2
      state.divergence[i] = divergence < 0 ? 0 : divergence
    }
  }

  /// Second pass: adds Σ g_i ∂D_i to the gradient of this rank's rows, and returns this rank's share of the student
  /// scale's gradient.
  func accumulate(_ student: UnitRows<S>, scale: S, _ ranks: some Ranks<S>) throws -> Double {
    for vector in [studentLSE, teacherLSE, number, factor] { try vector.gather(ranks) }
    try targets.gather(ranks)
    let anchors = IntraAnchors(
      studentLSE: studentLSE.all, teacherLSE: teacherLSE.all, factor: factor.all, number: number.all)
    let own = anchors.slice(batch.rows)
    return tiles.gradient(student.own, student.all, scale: scale, into: student.gradient) {
      tile, rows, columns, along in
      let logits = targets.logits(rows, columns, seenBy: targets)
      let diagonal = batch.first + rows.lowerBound - columns.lowerBound
      intraGradient(
        SimilarityTile(
          tile, studentScale: scale, logits.rows, teacherScale: targets.scale, leavingOut: masked ? diagonal : nil),
        rows: own.slice(rows), columns: anchors.slice(columns), columnTeacher: logits.columns, form: form,
        along: along)
    }
  }

  private func forEachTile(
    _ student: UnitRows<S>, _ body: (_ c: Tensor<S>, _ r: Tensor<S>, _ rows: Range<Int>, _ diagonal: Int) -> Void
  ) {
    tiles.forEach(batch.rows.count, batch.count) { rows, columns in
      body(
        tiles.products(student.own.rows(rows), student.all.rows(columns)), targets.logits(rows, columns).rows, rows,
        batch.first + rows.lowerBound - columns.lowerBound)
    }
  }
}

extension IntraOptions.Divergence {
  var form: IntraForm {
    switch self {
    case .forward: return .forward
    case .reverse: return .reverse
    case .jensenShannon: return .jensenShannon
    }
  }
}
