internal import Tensor

/// Augmented feature distillation (CLIP-KD): CLIP's loss of student and teacher rows fused.
///
/// f_i = norm(F_v [u_i; x_i] + b_v), g_i = norm(F_t [v_i; y_i] + b_t) with F affine from d_s + d_t to d_s;
/// L = ½ [ CE(φ F Gᵀ, i) + CE(φ G Fᵀ, i) ]. The scale φ is used as it is. Through F the gradient reaches u and v: with
/// dz = ∂L/∂(F_v [u; x] + b_v), du = dz F_v restricted to the student's columns.
final class AFD<S: Scalar> {
  private struct Fusion {
    let linear: Linear<S>
    let rows = UnitRows<S>()
    let joined = Buffer<S>()
    let djoined = Buffer<S>()

    init(_ store: ParameterStore<S>, name: String, _ student: Int, _ teacher: Int) {
      let bound = Initial.uniform(1 / Double(student + teacher).squareRoot())
      linear = Linear(
        weight: store.declare("\(name).weight", Shape(student, student + teacher), bound),
        bias: store.declare("\(name).bias", Shape(student), bound))
    }

    func forward(_ student: UnitRows<S>, _ teacher: UnitRows<S>, _ share: BatchShare, _ ranks: some Ranks<S>) throws {
      let b = share.rows.count
      let z = joined.tensor(Shape(b, linear.weight.shape[1]))
      joinRows(student.own, teacher.own, into: z)
      rows.place(share, width: linear.weight.shape[0])
      linear.forward(z, into: rows.own)
      rows.normalizeInPlace()
      try rows.gather(ranks)
    }

    func backward(_ student: UnitRows<S>, _ share: BatchShare) {
      let shape = Shape(share.rows.count, linear.weight.shape[1])
      let dz = djoined.tensor(shape)
      linear.backward(rows.rawGradient(), x: joined.tensor(shape), dx: dz)
      addLeadingColumns(of: dz, to: student.gradient)
    }
  }

  private let contrastive: Contrastive<S>
  private let fusions: Modalities<Fusion>
  private let scale: Parameter<S>
  private let weights = RowVector<S>()

  init(_ tiles: Tiles<S>, _ store: ParameterStore<S>, prefix: String, student: Int, teacher: Int, scale: Initial) {
    contrastive = Contrastive(tiles)
    fusions = Modalities(
      image: Fusion(store, name: "\(prefix)visual_fusion_proj", student, teacher),
      text: Fusion(store, name: "\(prefix)text_fusion_proj", student, teacher))
    self.scale = store.declare("\(prefix)fusion_logit_scale", Shape(), scale)
  }

  /// Adds weight · ∂L to this rank's rows and to the gradients of F, b and φ; returns this rank's share of L.
  func accumulate(
    _ student: Modalities<UnitRows<S>>, _ teacher: Modalities<UnitRows<S>>, weight: Double, _ share: BatchShare,
    _ ranks: some Ranks<S>
  ) throws -> Double {
    try fusions.image.forward(student.image, teacher.image, share, ranks)
    try fusions.text.forward(student.text, teacher.text, share, ranks)
    let rows = Modalities(image: fusions.image.rows, text: fusions.text.rows)
    let phi = scale.value[0]
    let value = try contrastive.measure(rows, scale: phi, share, ranks)
    weights.set(S(weight / Double(2 * share.count)), share)
    let slope = contrastive.accumulate(rows, scale: phi, weights: Modalities(image: weights, text: weights))
    scale.gradient[0] += S(slope)
    fusions.image.backward(student.image, share)
    fusions.text.backward(student.text, share)
    return value
  }
}
