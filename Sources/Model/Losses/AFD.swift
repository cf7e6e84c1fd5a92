public import Settings
public import Tensor

/// The settings of augmented feature distillation.
public struct AFDSettings: TermSettings {
  public static let key = "afd"
  public static let needs: TermNeeds = [.teacherEmbeddings]

  public var weight = Scheduled(0.0)

  public init() {}

  public func products(_ size: ObjectiveSize) -> TermProducts {
    TermProducts(similarities: size.student, gradients: size.student)
  }

  /// Counts the fused rows, and the joined rows of student and teacher with their gradients.
  public func numbers(_ size: ObjectiveSize) -> Int {
    size.embeddings(size.student) + 4 * size.rows * (size.student + size.teacher)
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> {
    AFD(parameters)
  }
}

/// Augmented feature distillation (CLIP-KD): CLIP's loss between images' and captions' rows, each of which fuses a
/// student row and a teacher row.
///
/// f_i = norm(F_v [u_i; x_i] + b_v), g_i = norm(F_t [v_i; y_i] + b_t) with F affine from d_s + d_t to d_s;
/// L = ½ [ CE(φ F Gᵀ, i) + CE(φ G Fᵀ, i) ]. The learned scale φ multiplies without an exponential. The gradient reaches
/// u and v through F: with dz = ∂L/∂(F_v [u; x] + b_v), du is dz F_v restricted to the student's columns.
final class AFD<S: Scalar>: DistillationTerm {
  private struct Fusion {
    let linear: Linear<S>
    let rows = UnitRows<S>()
    let joined = Buffer<S>()
    let djoined = Buffer<S>()

    init(_ parameters: ObjectiveParameters<S>, _ name: String) {
      let width = parameters.studentWidth
      linear = parameters.linear(name, from: width + parameters.teacherWidth, to: width)
    }

    func forward(_ student: UnitRows<S>, _ teacher: UnitRows<S>, _ batch: LocalBatch, _ ranks: some Ranks<S>) throws {
      let b = batch.rows.count
      let z = joined.tensor(Shape(b, linear.weight.shape[1]))
      joinRows(student.own, teacher.own, into: z)
      rows.place(batch, width: linear.weight.shape[0])
      linear.forward(z, into: rows.own)
      rows.normalizeInPlace()
      try rows.gather(ranks)
    }

    func backward(_ student: UnitRows<S>, _ batch: LocalBatch) {
      let shape = Shape(batch.rows.count, linear.weight.shape[1])
      let dz = djoined.tensor(shape)
      linear.backward(rows.rawGradient(), x: joined.tensor(shape), dx: dz)
      addLeadingColumns(of: dz, to: student.gradient)
    }
  }

  var weights: Modalities<RowVector<S>>? { rowWeight }
  var localLosses: Modalities<Tensor<S>>? { contrastive.own }

  private let contrastive: Contrastive<S>
  private let fusions: Modalities<Fusion>
  private let scale: Parameter<S>
  private let rowWeight = Modalities(image: RowVector<S>(), text: RowVector<S>())
  private var share = 0.0

  init(_ parameters: ObjectiveParameters<S>) {
    contrastive = Contrastive(parameters.tiles)
    fusions = Modalities(
      image: Fusion(parameters, "visual_fusion_proj"), text: Fusion(parameters, "text_fusion_proj"))
    scale = parameters.scale("fusion_logit_scale")
  }

  private var rows: Modalities<UnitRows<S>> { Modalities(image: fusions.image.rows, text: fusions.text.rows) }

  func rowLosses(_ context: LossContext<S>) throws {
    let (student, teacher, batch) = (context.student, context.teachers[0].rows, context.batch)
    try fusions.image.forward(student.image, teacher.image, batch, context.ranks)
    try fusions.text.forward(student.text, teacher.text, batch, context.ranks)
    share = try contrastive.measure(rows, scale: scale.value[0], batch, context.ranks)
    rowWeight.set(context.share(of: context.options[AFDSettings.self].weight.wrappedValue), batch)
  }

  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    scale.gradient[0] += S(contrastive.accumulate(rows, scale: scale.value[0], weights: rowWeight))
    fusions.image.backward(context.student.image, context.batch)
    fusions.text.backward(context.student.text, context.batch)
    return TermOutcome(context.options[AFDSettings.self], share: share)
  }
}
