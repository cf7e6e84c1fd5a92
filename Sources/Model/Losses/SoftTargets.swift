internal import Tensor

/// One teacher's rows and scale.
struct Teacher<S: Scalar> {
  let rows: Modalities<UnitRows<S>>
  /// β, by which its similarities are multiplied.
  let scale: S

  /// Returns the similarities of one modality's anchors with the other's rows, or with its own.
  func strip(_ anchors: Modality, _ keys: Modality) -> TeacherStrip<S> {
    TeacherStrip(own: rows[anchors].own, all: rows[keys].all, scale: scale)
  }

  func with(scale: S) -> Teacher { Teacher(rows: rows, scale: scale) }
}

/// One teacher's local anchors [b, d] and all keys [N, d], whose similarities are compared.
struct TeacherStrip<S: Scalar> {
  let own: Tensor<S>
  let all: Tensor<S>
  let scale: S
}

/// Tiles of logits whose softmaxes are the targets of the student's softmaxes.
///
/// With one teacher the logits are β r_ij. With K teachers, of any widths and scales, the target is the mean of their
/// softmaxes,
///
///     q_ij = 1/K Σ_k e^(β_k r^k_ij − lse^k_i)
///
/// and its logits are ln K q_ij. The anchors of another strip, which are a tile's columns, have the same products but
/// log-sum-exps of their own.
final class SoftTargets<S: Scalar> {
  private let tiles: Tiles<S>
  private var strips: [TeacherStrip<S>] = []
  /// The log-sum-exps of each teacher, if there are several.
  private var lse: [GlobalRows<S>] = []

  init(_ tiles: Tiles<S>) { self.tiles = tiles }
  /// The multiplier of the logits before the softmax.
  var scale: S { strips.count == 1 ? strips[0].scale : 1 }

  /// Sets the teachers; with `masked` each anchor is left out of its own candidates.
  func place(_ strips: [TeacherStrip<S>], masked: Bool, _ batch: LocalBatch) {
    self.strips = strips
    guard strips.count > 1 else { return }
    while lse.count < strips.count { lse.append(GlobalRows()) }
    for (strip, lse) in zip(strips, lse) {
      lse.place(batch)
      let first = masked ? batch.rows.lowerBound : nil
      tiles.normalizers(strip.own, strip.all, scale: strip.scale, into: lse.own, leavingOut: first)
    }
  }

  /// Gathers the log-sum-exps of all ranks, which tiles need whose columns are anchors.
  func gather(_ ranks: some Ranks<S>) throws { for vector in lse { try vector.gather(ranks) } }

  /// Returns a tile's logits for the anchors in its rows, and those for the other strip's anchors in its columns, which
  /// are nil if there is no other strip or if they are the same. The next call reuses the memory.
  func logits(
    _ rows: Range<Int>, _ columns: Range<Int>, seenBy other: SoftTargets? = nil
  ) -> (rows: Tensor<S>, columns: Tensor<S>?) {
    func products(_ strip: TeacherStrip<S>) -> Tensor<S> {
      tiles.teacherProducts(strip.own.rows(rows), strip.all.rows(columns))
    }
    guard strips.count > 1 else { return (products(strips[0]), nil) }
    let shape = Shape(rows.count, columns.count)
    let along = tiles.targets.rows.tensor(shape)
    let across = other.map { _ in tiles.targets.columns.tensor(shape) }
    fill(along, -S.infinity)
    if let across { fill(across, -S.infinity) }
    for (index, strip) in strips.enumerated() {
      let r = products(strip)
      addProbability(TileSoftmax(r, scale: strip.scale, lse: lse[index].own.slice(rows), of: .rows), to: along)
      if let across, let other {
        let softmax = TileSoftmax(r, scale: strip.scale, lse: other.lse[index].all.slice(columns), of: .columns)
        addProbability(softmax, to: across)
      }
    }
    return (along, across)
  }
}
