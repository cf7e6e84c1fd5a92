internal import Tensor

/// One teacher, as terms see it.
struct Teacher<S: Scalar> {
  let rows: Modalities<UnitRows<S>>
  /// β, what its similarities are multiplied by.
  let scale: S

  /// What the pictures' anchors are compared with: captions, and of captions' anchors pictures.
  var across: Modalities<TeacherStrip<S>> {
    Modalities(
      image: TeacherStrip(own: rows.image.own, all: rows.text.all, scale: scale),
      text: TeacherStrip(own: rows.text.own, all: rows.image.all, scale: scale))
  }

  /// Each modality among itself.
  var within: Modalities<TeacherStrip<S>> {
    Modalities(
      image: TeacherStrip(own: rows.image.own, all: rows.image.all, scale: scale),
      text: TeacherStrip(own: rows.text.own, all: rows.text.all, scale: scale))
  }
}

extension Array {
  /// The same teachers with another scale; nil for their own.
  func scaled<S>(_ scale: S?) -> Self where Element == Teacher<S> {
    map { Teacher(rows: $0.rows, scale: scale ?? $0.scale) }
  }
}

/// One teacher's similarities of own anchors to everybody's rows.
struct TeacherStrip<S: Scalar> {
  let own: Tensor<S>
  let all: Tensor<S>
  let scale: S
}

/// Logits of which the softmaxes are what the student's are to follow, tile by tile.
///
/// One teacher's are β r_ij. Of K teachers, of any widths and scales, the target is the mean of their softmaxes,
///
///     q_ij = 1/K Σ_k e^(β_k r^k_ij − lse^k_i)
///
/// and its logits are ln K q_ij. The anchors of another strip, in a tile's columns, see the same products with
/// log-sum-exps of their own.
final class SoftTargets<S: Scalar> {
  private let tiles: Tiles<S>
  private var strips: [TeacherStrip<S>] = []
  /// Of each teacher, where there are several.
  private var lse: [RowVector<S>] = []
  private let sums = Buffer<S>()

  init(_ tiles: Tiles<S>) { self.tiles = tiles }

  /// By what the logits are multiplied before the softmax.
  var scale: S { strips.count == 1 ? strips[0].scale : 1 }

  /// Sets the teachers; with `masked` no anchor is a candidate of its own.
  func place(_ strips: [TeacherStrip<S>], masked: Bool = false, _ batch: LocalBatch) {
    self.strips = strips
    guard strips.count > 1 else { return }
    while lse.count < strips.count { lse.append(RowVector()) }
    for (strip, lse) in zip(strips, lse) {
      lse.place(batch)
      tiles.normalizers(
        strip.own, strip.all, scale: strip.scale, into: lse.own, sums: sums, leavingOut: masked ? batch.first : nil)
    }
  }

  /// Makes the log-sum-exps of all ranks known, for those who see them in columns.
  func gather(_ ranks: some Ranks<S>) throws {
    guard strips.count > 1 else { return }
    for vector in lse { try vector.gather(ranks) }
  }

  /// Of a tile's anchors in the rows, and of the other strip's in its columns: nil where there are none, or where they
  /// are the same. The memory is used again by the next call.
  func logits(
    _ rows: Range<Int>, _ columns: Range<Int>, seenBy other: SoftTargets? = nil
  ) -> (rows: Tensor<S>, columns: Tensor<S>?) {
    strips.count == 1 ? (products(strips[0], rows, columns), nil) : mixed(rows, columns, seenBy: other)
  }

  private func products(_ strip: TeacherStrip<S>, _ rows: Range<Int>, _ columns: Range<Int>) -> Tensor<S> {
    tiles.teacherProducts(strip.own.rows(rows), strip.all.rows(columns))
  }

  private func mixed(
    _ rows: Range<Int>, _ columns: Range<Int>, seenBy other: SoftTargets?
  ) -> (rows: Tensor<S>, columns: Tensor<S>?) {
    let shape = Shape(rows.count, columns.count)
    let along = tiles.targets(shape)
    let across = other.map { _ in tiles.oppositeTargets(shape) }
    fill(along, -S.infinity)
    if let across { fill(across, -S.infinity) }
    for (index, strip) in strips.enumerated() {
      let r = products(strip, rows, columns)
      addProbability(r, scale: strip.scale, lse: lse[index].own.slice(rows), of: .rows, to: along)
      if let across, let other {
        addProbability(r, scale: strip.scale, lse: other.lse[index].all.slice(columns), of: .columns, to: across)
      }
    }
    return (along, across)
  }
}
