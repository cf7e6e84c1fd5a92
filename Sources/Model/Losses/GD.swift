public import Settings
public import Tensor

/// The settings of gradient distillation.
public struct GDSettings: TermSettings {
  public static let key = "gd"
  public static let needs: TermNeeds = [.teacherEmbeddings, .globalProjection]

  public var weight = Scheduled(0.0)
  /// The multiplier of the similarities.
  @Scheduled public var scale = GDScale.reciprocal

  public init() {}

  public mutating func options(_ map: FieldMap) { map.field("gd_scale", &$scale) }

  public func products(_ size: ObjectiveSize) -> TermProducts {
    TermProducts(similarities: size.teacher, gradients: size.teacher)
  }

  /// Counts the errors E and F of all ranks, for both directions.
  public func numbers(_ size: ObjectiveSize) -> Int { 2 * size.embeddings(size.teacher) }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> {
    GD(parameters.tiles)
  }
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
  private let tiles: Tiles<S>
  private let directions: (Direction<S>, Direction<S>)

  init(_ tiles: Tiles<S>) {
    self.tiles = tiles
    directions = (Direction(tiles), Direction(tiles))
  }

  func accumulate(_ context: LossContext<S>) throws -> TermOutcome {
    let settings = context.options[GDSettings.self]
    let isReciprocal = settings.scale == .reciprocal
    let (student, teacher, alpha) = (context.projected, context.teachers[0], context.scale)
    let scales = Scales(
      student: isReciprocal ? 1 / alpha : alpha, teacher: isReciprocal ? 1 / teacher.scale : teacher.scale)
    let weight = settings.weight.wrappedValue
    let image = try directions.0.accumulate(
      student, teacher.rows, scales, weight, context.batch, context.ranks)
    let text = try directions.1.accumulate(
      student.swapped, teacher.rows.swapped, scales, weight, context.batch, context.ranks)
    let gradient = image.slope + text.slope
    context.scaleGradient += isReciprocal ? -gradient * Double(scales.student * scales.student) : gradient
    return TermOutcome(settings, share: image.value + text.value)
  }
}

/// One direction of the loss: one modality's rows are the anchors, the other's the keys.
private final class Direction<S: Scalar> {
  private let tiles: Tiles<S>
  private let lse = RowVector<S>()
  private let teacherLSE = RowVector<S>()
  private let sigma = RowVector<S>()
  private let sums = Buffer<S>()
  /// The errors E (of anchors) and F (of keys) of all ranks.
  private let errors = Modalities(image: GlobalRows<S>(), text: GlobalRows<S>())
  private let gradients = Modalities(image: Buffer<S>(), text: Buffer<S>())
  private let mixed = Buffer<S>()
  private let second = Buffer<S>()

  init(_ tiles: Tiles<S>) { self.tiles = tiles }

  /// Adds the gradients of one direction, and returns this rank's shares of the value and of ∂L/∂s. Here `image` holds
  /// the anchors and `text` the keys.
  func accumulate(
    _ student: Modalities<UnitRows<S>>, _ teacher: Modalities<UnitRows<S>>, _ scales: Scales<S>, _ weight: Double,
    _ batch: LocalBatch, _ ranks: some Ranks<S>
  ) throws -> (value: Double, slope: Double) {
    let (n, s) = (Double(batch.count), scales.student)
    let shape = student.image.own.shape
    let g = Modalities(image: gradients.image.tensor(shape), text: gradients.text.tensor(shape))
    errors.image.place(batch, width: shape.columns)
    errors.text.place(batch, width: shape.columns)
    try analytic(
      teacher, scales.teacher, teacherLSE, into: Modalities(image: errors.image.own, text: errors.text.own), batch,
      ranks)
    try analytic(student, s, lse, into: g, batch, ranks)

    let entries = n * Double(shape.columns)
    var value = 0.0
    var slope = 0.0
    for (found, wanted) in [(g.image, errors.image.own), (g.text, errors.text.own)] {
      add(found, times: -1, to: wanted)
      value += sumOfSquares(wanted) / entries
      scale(wanted, by: S(-2 * weight / entries))
      slope += dot(found, wanted) / Double(s)
    }
    try errors.image.gather(ranks)
    try errors.text.gather(ranks)

    // W = M F, from which σ is computed.
    let w = mixed.tensor(shape)
    fill(w, 0)
    residuals(student.image.own, student.text.all, s, lse.own, .rows, batch) { residual, rows, columns in
      matmul(residual, errors.text.all.rows(columns), into: w.rows(rows), beta: 1)
    }
    add(w, times: s / S(n), to: student.image.gradient)
    sigma.place(batch)
    for i in 0..<shape.rows {
      func row(_ x: Tensor<S>) -> Tensor<S> { x.rows(i..<i + 1) }
      let (e, f) = (row(errors.image.own), row(errors.text.own))
      sigma.own[i] =
        S(dot(e, row(g.image))) + s / S(n)
        * S(dot(e, row(student.text.own)) + dot(row(student.image.own), row(w)) + dot(row(student.image.own), f))
    }
    try sigma.gather(ranks)
    residuals(student.text.own, student.image.all, s, lse.all, .columns, batch) { residual, rows, columns in
      matmul(
        residual, errors.image.all.rows(columns), into: student.text.gradient.rows(rows), alpha: s / S(n), beta: 1)
    }
    slope += throughSoftmax(student.image, student.text.all, (errors.image.own, errors.text.all), s, .rows, batch)
    _ = throughSoftmax(student.text, student.image.all, (errors.text.own, errors.image.all), s, .columns, batch)
    return (value, slope)
  }

  /// Computes g and h of one model for the local rows.
  private func analytic(
    _ rows: Modalities<UnitRows<S>>, _ s: S, _ lse: RowVector<S>, into result: Modalities<Tensor<S>>,
    _ batch: LocalBatch, _ ranks: some Ranks<S>
  ) throws {
    lse.place(batch)
    tiles.normalizers(rows.image.own, rows.text.all, scale: s, into: lse.own, sums: sums)
    try lse.gather(ranks)
    let factor = s / S(batch.count)
    fill(result.image, 0)
    fill(result.text, 0)
    residuals(rows.image.own, rows.text.all, s, lse.own, .rows, batch) { residual, own, columns in
      matmul(residual, rows.text.all.rows(columns), into: result.image.rows(own), alpha: factor, beta: 1)
    }
    residuals(rows.text.own, rows.image.all, s, lse.all, .columns, batch) { residual, own, columns in
      matmul(residual, rows.image.all.rows(columns), into: result.text.rows(own), alpha: factor, beta: 1)
    }
  }

  /// Calls `body` with every tile of P − 1, or of its transpose if the anchors are the columns.
  private func residuals(
    _ own: Tensor<S>, _ all: Tensor<S>, _ s: S, _ lse: Tensor<S>, _ anchors: Anchors, _ batch: LocalBatch,
    _ body: (Tensor<S>, Range<Int>, Range<Int>) -> Void
  ) {
    tiles.forEach(own.rows, all.rows) { rows, columns in
      let tile = tiles.products(own.rows(rows), all.rows(columns))
      softmaxResidual(
        TileSoftmax(tile, scale: s, lse: lse.slice(anchors == .rows ? rows : columns), of: anchors),
        diagonal: batch.first + rows.lowerBound - columns.lowerBound)
      body(tile, rows, columns)
    }
  }

  /// Adds s dZ K (or s dZᵀ A) to the rows' gradient, and returns Σ dZ · A Kᵀ over the tiles.
  private func throughSoftmax(
    _ rows: UnitRows<S>, _ all: Tensor<S>, _ errors: (own: Tensor<S>, all: Tensor<S>), _ s: S, _ anchors: Anchors,
    _ batch: LocalBatch
  ) -> Double {
    let along = sums.tensor(Shape(rows.own.rows))
    fill(along, 0)
    tiles.forEach(rows.own.rows, all.rows) { own, columns in
      let c = tiles.products(rows.own.rows(own), all.rows(columns))
      let x = tiles.teacherProducts(errors.own.rows(own), all.rows(columns))
      matmul(rows.own.rows(own), errors.all.rows(columns), into: x, transposeB: true, beta: 1)
      let part = anchors == .rows ? own : columns
      let (lse, sigma) = anchors == .rows ? (self.lse.own, self.sigma.own) : (self.lse.all, self.sigma.all)
      softmaxBackward(
        x, factor: s / S(batch.count), TileSoftmax(c, scale: s, lse: lse.slice(part), of: anchors),
        sigma: sigma.slice(part), along: along.slice(own))
      matmul(x, all.rows(columns), into: rows.gradient.rows(own), alpha: s, beta: 1)
    }
    return sum(along)
  }
}

/// The multipliers of the student's and the teacher's similarities.
struct Scales<S: Scalar> {
  var student: S
  var teacher: S
}
