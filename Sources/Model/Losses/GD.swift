public import Settings
public import Tensor

/// The settings of gradient distillation.
public struct GDSettings: TermSettings {
  public static let key = "gd"
  public static let needs: TermNeeds = [.teacherEmbeddings, .globalProjection, .teacherPairs]
  public var weight = Scheduled(0.0)
  /// The multiplier of the similarities.
  @Scheduled public var scale = GDScale.reciprocal

  public mutating func options(_ map: FieldMap) { map.field("gd_scale", &$scale) }
  public func products(_ size: ObjectiveSize) -> TermProducts { TermProducts(gradients: size.teacher) }
  /// Counts the errors E and F of all ranks, for both directions.
  public func numbers(_ size: ObjectiveSize) -> Int { 2 * size.embeddings(size.teacher) }
  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> { GD(parameters.tiles) }
}

/// The use of the scale in GD: `reciprocal` divides similarities by it, as CLIP-KD does; `proper` multiplies by it, as
/// the contrastive loss does.
public enum GDScale: String, CaseIterable, Schedulable { case reciprocal, proper }

/// Gradient distillation (CLIP-KD): the gradients of the student's contrastive loss follow those of the teacher's.
///
/// For anchors A, keys K and a multiplier s (1/α as CLIP-KD has it, or α), with P = softmax_j(s a_i·k_j):
///
///     g_i = (s/N) Σ_j (P − 1)_ij k_j        h_j = (s/N) Σ_i (P − 1)_ij a_i
///     L = Σ over both directions of (1/(N d)) ( ‖g − g^T‖² + ‖h − h^T‖² )
///
/// With E = 2 (g − g^T)/(N d), F = 2 (h − h^T)/(N d) and M = P − 1: dM_ij = (s/N)(E_i·k_j + a_i·F_j), and through the
/// softmax dZ_ij = P_ij (dM_ij − σ_i), σ_i = Σ_j P_ij dM_ij = (s/N)( E_i·((N/s) g_i + k_i) + a_i·(W_i + F_i) ) with
/// W = M F. So
///
///     dA = (s/N) W + s dZ K        dK = (s/N) Mᵀ E + s dZᵀ A        ds = (E·g + F·h)/s + Σ dZ · A Kᵀ
///
/// and all of it is computed by matrix products of tiles. The rows E and F and the vectors lse and σ are gathered from
/// all ranks. The loss compares gradients and not rows, so it has no row weights.
final class GD<S: Scalar>: DistillationTerm {
  private let directions: (Direction<S>, Direction<S>)

  init(_ tiles: Tiles<S>) { directions = (Direction(tiles), Direction(tiles)) }

  func accumulate(_ context: LossContext<S>) throws -> TermOutcome {
    let isReciprocal = context.options[GDSettings.self].scale == .reciprocal
    let (student, teacher, alpha) = (context.projected, context.teachers[0], context.scale)
    let s = isReciprocal ? 1 / alpha : alpha
    let scales = (student: s, teacher: isReciprocal ? 1 / teacher.scale : teacher.scale)
    let image = try directions.0.accumulate(student, teacher.rows, scales, context)
    let text = try directions.1.accumulate(student.swapped, teacher.rows.swapped, scales, context)
    let gradient = image.slope + text.slope
    return TermOutcome(
      share: image.value + text.value, scaleGradient: isReciprocal ? -gradient * Double(s * s) : gradient)
  }
}

/// One direction of the loss: one modality's rows are the anchors, the other's the keys.
private final class Direction<S: Scalar> {
  private let tiles: Tiles<S>
  private let lse = GlobalRows<S>()
  private let sigma = GlobalRows<S>()
  private let sums = Buffer<S>()
  /// The errors E (of anchors) and F (of keys) of all ranks.
  private let errors = Modalities { GlobalRows<S>() }
  private let gradients = Modalities { Buffer<S>() }
  private let mixed = Buffer<S>()
  private var batch = LocalBatch(rows: 0..<0, count: 0)

  init(_ tiles: Tiles<S>) { self.tiles = tiles }

  /// Adds the gradients of one direction, and returns this rank's shares of the value and of ∂L/∂s. Here `image` holds
  /// the anchors and `text` the keys.
  func accumulate(
    _ student: Modalities<UnitRows<S>>, _ teacher: Modalities<UnitRows<S>>, _ scales: (student: S, teacher: S),
    _ context: LossContext<S>
  ) throws -> (value: Double, slope: Double) {
    let (anchors, keys, ranks) = (student.image, student.text, context.ranks)
    batch = context.batch
    let (n, s, shape) = (Double(batch.count), scales.student, anchors.own.shape)
    let g = gradients.map { $0.tensor(shape) }
    for error in errors.both { error.place(batch, width: shape.columns) }
    try analytic(teacher, scales.teacher, into: errors.map(\.own), ranks)
    try analytic(student, s, into: g, ranks)

    let entries = n * Double(shape.columns)
    let weight = context.options[GDSettings.self].weight.wrappedValue
    var (value, slope) = (0.0, 0.0)
    for (found, wanted) in [(g.image, errors.image.own), (g.text, errors.text.own)] {
      add(found, times: -1, to: wanted)
      value += sumOfSquares(wanted) / entries
      scale(wanted, by: S(-2 * weight / entries))
      slope += dot(found, wanted) / Double(s)
    }
    for error in errors.both { try error.gather(ranks) }

    // W = M F, from which σ is computed.
    let w = mixed.tensor(shape)
    fill(w, 0)
    addResiduals(anchors.own, keys.all, s, .rows, times: errors.text.all, factor: 1, to: w)
    add(w, times: s / S(n), to: anchors.gradient)
    sigma.place(batch)
    for i in 0..<shape.rows {
      func row(_ x: Tensor<S>) -> Tensor<S> { x.rows(i..<i + 1) }
      let (e, f, a) = (row(errors.image.own), row(errors.text.own), row(anchors.own))
      sigma.own[i] = S(dot(e, row(g.image))) + s / S(n) * S(dot(e, row(keys.own)) + dot(a, row(w)) + dot(a, f))
    }
    try sigma.gather(ranks)
    addResiduals(keys.own, anchors.all, s, .columns, times: errors.image.all, factor: s / S(n), to: keys.gradient)
    slope += throughSoftmax(anchors, keys.all, (errors.image.own, errors.text.all), s, .rows)
    _ = throughSoftmax(keys, anchors.all, (errors.text.own, errors.image.all), s, .columns)
    return (value, slope)
  }

  /// Computes g and h of one model for the local rows, and its log-sum-exps.
  private func analytic(
    _ rows: Modalities<UnitRows<S>>, _ s: S, into result: Modalities<Tensor<S>>, _ ranks: some Ranks<S>
  ) throws {
    let (anchors, keys, factor) = (rows.image, rows.text, s / S(batch.count))
    lse.place(batch)
    tiles.normalizers(anchors.own, keys.all, scale: s, into: lse.own)
    try lse.gather(ranks)
    for target in result.both { fill(target, 0) }
    addResiduals(anchors.own, keys.all, s, .rows, times: keys.all, factor: factor, to: result.image)
    addResiduals(keys.own, anchors.all, s, .columns, times: anchors.all, factor: factor, to: result.text)
  }

  /// Adds factor · (P − 1) B to `result`, tile by tile, with the transpose of P − 1 if the anchors are the columns.
  private func addResiduals(
    _ own: Tensor<S>, _ all: Tensor<S>, _ s: S, _ anchors: Anchors, times b: Tensor<S>, factor: S, to result: Tensor<S>
  ) {
    tiles.forEach(own.rows, all.rows) { rows, columns in
      let tile = tiles.products(own.rows(rows), all.rows(columns))
      let lse = anchors == .rows ? self.lse.own.slice(rows) : self.lse.all.slice(columns)
      softmaxResidual(TileSoftmax(tile, scale: s, lse: lse, of: anchors), diagonal: batch.diagonal(rows, columns))
      matmul(tile, b.rows(columns), into: result.rows(rows), alpha: factor, beta: 1)
    }
  }

  /// Adds s dZ K (or s dZᵀ A) to the rows' gradient, and returns Σ dZ · A Kᵀ over the tiles.
  private func throughSoftmax(
    _ rows: UnitRows<S>, _ all: Tensor<S>, _ errors: (own: Tensor<S>, all: Tensor<S>), _ s: S, _ anchors: Anchors
  ) -> Double {
    let along = sums.tensor(Shape(rows.own.rows))
    fill(along, 0)
    let (lse, sigma) = anchors == .rows ? (self.lse.own, self.sigma.own) : (self.lse.all, self.sigma.all)
    tiles.forEach(rows.own.rows, all.rows) { own, columns in
      let c = tiles.products(rows.own.rows(own), all.rows(columns))
      let x = tiles.teacherProducts(errors.own.rows(own), all.rows(columns))
      matmul(rows.own.rows(own), errors.all.rows(columns), into: x, transposeB: true, beta: 1)
      let part = anchors == .rows ? own : columns
      softmaxBackward(
        x, factor: s / S(batch.count), TileSoftmax(c, scale: s, lse: lse.slice(part), of: anchors),
        sigma: sigma.slice(part), along: along.slice(own))
      matmul(x, all.rows(columns), into: rows.gradient.rows(own), alpha: s, beta: 1)
    }
    return sum(along)
  }
}
