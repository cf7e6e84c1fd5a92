public import Settings
public import Tensor

/// The settings of contrastive relational distillation.
public struct CRDSettings: TermSettings {
  public static let key = "crd"
  public static let needs: TermNeeds = [.teacherSoftmaxes]

  public var weight = Scheduled(0.0)

  public init() {}

  public func products(_ size: ObjectiveSize) -> TermProducts {
    TermProducts(similarities: size.student + size.teacher, gradients: size.student)
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> {
    CRDTerm(CRD(parameters.tiles))
  }
}

/// Contrastive relational distillation (CLIP-KD): the student's cross-modal softmaxes follow the teacher's.
///
/// L = 1/(2N) Σ_i [ KL(softmax_j β x_i·y_j ‖ softmax_j α u_i·v_j) + the same for captions against images ]. With P and
/// C the softmaxes along rows and columns of Z = α U Vᵀ, P^q and C^q the teacher's, and weights a of the images' and w
/// of the captions' rows (1/2N each in L itself), ∂L/∂Z is G_ij = a_i (P − P^q)_ij + w_j (C − C^q)_ij. The teacher has
/// no gradient.
final class CRD<S: Scalar> {
  private let tiles: Tiles<S>
  private let strips: Modalities<DivergenceStrip<S>>
  private var count = 0

  init(_ tiles: Tiles<S>) {
    self.tiles = tiles
    strips = Modalities(image: DivergenceStrip(tiles), text: DivergenceStrip(tiles))
  }

  /// The divergences of this rank's images and captions [b], after `measure`.
  var own: Modalities<Tensor<S>> {
    Modalities(image: strips.image.rows.divergence, text: strips.text.rows.divergence)
  }

  /// −Σ q ln q of the teacher's softmaxes of this rank's rows, summed over both modalities and divided by 2N.
  var entropy: Double {
    (sum(strips.image.rows.entropy) + sum(strips.text.rows.entropy)) / Double(2 * count)
  }

  /// First pass: computes the divergences and returns this rank's share of L.
  func measure(
    _ student: Modalities<UnitRows<S>>, scale: S, _ teachers: [Teacher<S>], _ batch: LocalBatch, _ ranks: some Ranks<S>
  ) throws -> Double {
    count = batch.count
    strips.image.fold((student.image.own, student.text.all), scale: scale, teachers.map(\.across.image), batch)
    strips.text.fold((student.text.own, student.image.all), scale: scale, teachers.map(\.across.text), batch)
    for strip in [strips.image, strips.text] { try strip.gather(ranks) }
    return (sum(own.image) + sum(own.text)) / Double(2 * count)
  }

  /// Second pass: adds the gradient of Σ a_i KL_i + Σ w_j KL_j to this rank's rows, and returns this rank's share of
  /// the student scale's gradient.
  func accumulate(
    _ student: Modalities<UnitRows<S>>, scale: S, weights: Modalities<RowVector<S>>
  ) -> Double {
    let slope = strips.image.accumulate(
      student.image, student.text.all, scale: scale, weights.image, across: (strips.text, weights.text))
    _ = strips.text.accumulate(
      student.text, student.image.all, scale: scale, weights.text, across: (strips.image, weights.image))
    return slope
  }
}

/// CRD between the student's unprojected images and captions.
private final class CRDTerm<S: Scalar>: DistillationTerm {
  var weights: Modalities<RowVector<S>>? { rowWeight }
  var localLosses: Modalities<Tensor<S>>? { crd.own }

  private let crd: CRD<S>
  private let rowWeight = Modalities(image: RowVector<S>(), text: RowVector<S>())
  private var share = 0.0

  init(_ crd: CRD<S>) { self.crd = crd }

  func rowLosses(_ context: LossContext<S>) throws {
    share = try crd.measure(context.student, scale: context.scale, context.teachers, context.batch, context.ranks)
    rowWeight.set(context.share(of: context.options[CRDSettings.self].weight.wrappedValue), context.batch)
  }

  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    context.scaleGradient += crd.accumulate(context.student, scale: context.scale, weights: rowWeight)
    return TermOutcome(context.options[CRDSettings.self], share: share)
  }
}

/// The local anchors against all keys, for student and teachers: computes divergences and log-sum-exps, and from these
/// gradients.
final class DivergenceStrip<S: Scalar> {
  private let tiles: Tiles<S>
  private let student = RowVector<S>()
  private let teacher = RowVector<S>()
  private let targets: SoftTargets<S>
  private let scratch = Buffer<S>()
  private var state: DivergenceRows<S>?

  init(_ tiles: Tiles<S>) {
    self.tiles = tiles
    targets = SoftTargets(tiles)
  }

  var rows: DivergenceRows<S> {
    guard let state else { preconditionFailure("divergences are asked for before they are folded") }
    return state
  }

  /// Computes the divergences of the local anchors. `own` are the student's local anchors [b, d] and all keys [N, d],
  /// `taught` the same of each teacher.
  func fold(_ own: (Tensor<S>, Tensor<S>), scale: S, _ taught: [TeacherStrip<S>], _ batch: LocalBatch) {
    targets.place(taught, batch)
    student.place(batch)
    teacher.place(batch)
    let state = DivergenceRows(
      count: batch.rows.count, scratch: scratch, studentLSE: student.own, teacherLSE: teacher.own)
    self.state = state
    tiles.forEach(batch.rows.count, batch.count) { rows, columns in
      let c = tiles.products(own.0.rows(rows), own.1.rows(columns))
      foldDivergence(
        SimilarityTile(
          c, studentScale: scale, targets.logits(rows, columns).rows, teacherScale: targets.scale),
        rows: rows, of: state)
    }
    finishDivergence(state)
  }

  /// Gathers the log-sum-exps of all ranks, which gradients across the columns need.
  func gather(_ ranks: some Ranks<S>) throws {
    try student.gather(ranks)
    try teacher.gather(ranks)
    try targets.gather(ranks)
  }

  /// Adds the gradient of Σ weight_i KL_i to `rows.gradient`, and with `across` also that of the other modality's
  /// anchors. Returns the gradient of the student's scale.
  func accumulate(
    _ rows: UnitRows<S>, _ all: Tensor<S>, scale: S, _ weight: RowVector<S>,
    across: (strip: DivergenceStrip, weight: RowVector<S>)?
  ) -> Double {
    tiles.gradient(rows.own, all, scale: scale, into: rows.gradient) { tile, own, columns, along in
      let logits = targets.logits(own, columns, seenBy: across?.strip.targets)
      divergenceGradient(
        SimilarityTile(tile, studentScale: scale, logits.rows, teacherScale: targets.scale),
        rows: (student.own.slice(own), teacher.own.slice(own), weight.own.slice(own)),
        columns: across.map { strip, weight in
          (strip.student.all.slice(columns), strip.teacher.all.slice(columns), weight.all.slice(columns))
        }, columnTeacher: logits.columns, along: along)
    }
  }
}
