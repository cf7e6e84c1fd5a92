internal import Tensor

/// The local anchors against all keys, for student and teachers: computes divergences and log-sum-exps, and from these
/// gradients.
final class DivergenceStrip<S: Scalar> {
  let studentLSE = GlobalRows<S>()
  let teacherLSE = GlobalRows<S>()
  let targets: SoftTargets<S>
  private let tiles: Tiles<S>
  private let scratch = Buffer<S>()
  private var batch = LocalBatch(rows: 0..<0, count: 0)
  private var masked = false
  private var state: DivergenceRows<S>?

  init(_ tiles: Tiles<S>) { (self.tiles, targets) = (tiles, SoftTargets(tiles)) }

  /// The divergences and entropies of the local anchors.
  var rows: DivergenceRows<S> {
    guard let state else { preconditionFailure("divergences are asked for before they are folded") }
    return state
  }

  /// Computes the divergences of the local anchors. `own` are the student's local anchors [b, d] and all keys [N, d],
  /// `teachers` the same of each teacher; with `masked` each anchor is left out of its own candidates.
  func fold(
    _ own: (Tensor<S>, Tensor<S>), scale: S, _ teachers: [TeacherStrip<S>], _ batch: LocalBatch, masked: Bool = false,
    reversed: Bool = false
  ) {
    (self.batch, self.masked) = (batch, masked)
    targets.place(teachers, masked: masked, batch)
    for vector in [studentLSE, teacherLSE] { vector.place(batch) }
    let state = DivergenceRows(
      count: batch.rows.count, scratch: scratch, studentLSE: studentLSE.own, teacherLSE: teacherLSE.own)
    self.state = state
    forEachTile(own, scale: scale) { foldDivergence($0, rows: $1, of: state, reversed: reversed) }
    finishDivergence(state, reversed: reversed)
  }

  /// Calls `body` with every tile of similarities, and its rows.
  func forEachTile(
    _ own: (Tensor<S>, Tensor<S>), scale: S, _ body: (_ tile: SimilarityTile<S>, _ rows: Range<Int>) -> Void
  ) {
    tiles.forEach(batch.rows.count, batch.count) { rows, columns in
      let products = tiles.products(own.0.rows(rows), own.1.rows(columns))
      body(tile(products, scale: scale, targets.logits(rows, columns).rows, rows, columns), rows)
    }
  }

  /// Returns the student's products beside the teacher's logits.
  func tile(
    _ products: Tensor<S>, scale: S, _ logits: Tensor<S>, _ rows: Range<Int>, _ columns: Range<Int>
  ) -> SimilarityTile<S> {
    SimilarityTile(
      products, studentScale: scale, logits, teacherScale: targets.scale,
      leavingOut: masked ? batch.diagonal(rows, columns) : nil)
  }

  /// Gathers the log-sum-exps of all ranks, and further vectors, which gradients across the columns need.
  func gather(_ ranks: some Ranks<S>, with others: [GlobalRows<S>] = []) throws {
    for vector in [studentLSE, teacherLSE] + others { try vector.gather(ranks) }
    try targets.gather(ranks)
  }

  /// Adds the gradient of Σ weight_i KL_i to `rows.gradient`, and with `across` also that of the other modality's
  /// anchors. Returns the gradient of the student's scale.
  func accumulate(
    _ rows: UnitRows<S>, _ keys: Tensor<S>, scale: S, _ weight: GlobalRows<S>,
    across: (strip: DivergenceStrip, weight: GlobalRows<S>)? = nil
  ) -> Double {
    tiles.gradient(rows.own, keys, scale: scale, into: rows.gradient) { products, own, columns, along in
      let logits = targets.logits(own, columns, seenBy: across?.strip.targets)
      divergenceGradient(
        tile(products, scale: scale, logits.rows, own, columns),
        rows: (studentLSE.own.slice(own), teacherLSE.own.slice(own), weight.own.slice(own)),
        columns: across.map { strip, weight in
          (strip.studentLSE.all.slice(columns), strip.teacherLSE.all.slice(columns), weight.all.slice(columns))
        }, columnTeacher: logits.columns, along: along)
    }
  }
}
