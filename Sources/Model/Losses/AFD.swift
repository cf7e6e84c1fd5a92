public import Settings
public import Tensor

/// The settings of augmented feature distillation.
public struct AFDSettings: TermSettings {
  public static let key = "afd"
  public static let needs: TermNeeds = [.teacherEmbeddings]
  public var weight = Scheduled(0.0)

  public func products(_ size: ObjectiveSize) -> TermProducts { TermProducts(gradients: size.student) }

  /// Counts the fused rows, and the joined rows of student and teacher with their gradients.
  public func numbers(_ size: ObjectiveSize) -> Int {
    size.embeddings(size.student) + 4 * size.rows * (size.student + size.teacher)
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> { AFD(parameters) }
}

/// Augmented feature distillation (CLIP-KD): CLIP's loss between images' and captions' rows, each of which fuses a
/// student row and a teacher row.
///
/// f_i = norm(F_v [u_i; x_i] + b_v), g_i = norm(F_t [v_i; y_i] + b_t) with F affine from d_s + d_t to d_s;
/// L = ½ [ CE(φ F Gᵀ, i) + CE(φ G Fᵀ, i) ]. The learned scale φ multiplies without an exponential. The gradient reaches
/// u and v through F: with dz = ∂L/∂(F_v [u; x] + b_v), du is dz F_v restricted to the student's columns.
final class AFD<S: Scalar>: DistillationTerm {
  var weights: Modalities<GlobalRows<S>>? { contrastive.weights }
  var localLosses: Modalities<Tensor<S>>? { contrastive.localLosses }

  private let contrastive: Contrastive<S>
  private let fusions: Modalities<Fusion>
  private let scale: Parameter<S>
  private var share = 0.0

  init(_ parameters: ObjectiveParameters<S>) {
    func fusion(_ name: String) -> Fusion {
      let width = parameters.studentWidth
      return Fusion(head: Head(parameters.linear(name, from: width + parameters.teacherWidth, to: width)))
    }
    contrastive = Contrastive(parameters.tiles)
    fusions = Modalities(image: fusion("visual_fusion_proj"), text: fusion("text_fusion_proj"))
    scale = parameters.scale("fusion_logit_scale")
  }

  /// F and the unit rows f that it makes of the joined rows [b, d_s + d_t].
  private struct Fusion {
    let head: Head<S>
    let memory = (joined: Buffer<S>(), gradient: Buffer<S>())

    func forward(_ student: UnitRows<S>, _ teacher: UnitRows<S>, _ context: LossContext<S>) throws {
      let z = memory.joined.tensor(Shape(student.own.rows, head.linear.weight.shape[1]))
      joinRows(student.own, teacher.own, into: z)
      head.forward(z, context.batch)
      try head.rows.gather(context.ranks)
    }

    func backward(_ student: UnitRows<S>) {
      let shape = Shape(student.own.rows, head.linear.weight.shape[1])
      let dz = memory.gradient.tensor(shape)
      head.linear.backward(head.rows.rawGradient(), x: memory.joined.tensor(shape), dx: dz)
      addLeadingColumns(of: dz, to: student.gradient)
    }
  }

  func rowLosses(_ context: LossContext<S>) throws {
    for modality in Modality.allCases {
      try fusions[modality].forward(context.student[modality], context.teachers[0].rows[modality], context)
    }
    share = try contrastive.measure(fusions.map(\.head.rows), scale: scale.value[0], context)
  }

  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    scale.gradient[0] += S(contrastive.accumulate(fusions.map(\.head.rows), scale: scale.value[0]))
    for modality in Modality.allCases { fusions[modality].backward(context.student[modality]) }
    return TermOutcome(share: share)
  }
}
