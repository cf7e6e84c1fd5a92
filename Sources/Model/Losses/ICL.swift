public import Settings
public import Tensor

/// The settings of interactive contrastive learning.
public struct ICLSettings: TermSettings {
  public static let key = "icl"
  public static let needs: TermNeeds = [.teacherEmbeddings, .projection]

  public var weight = Scheduled(0.0)
  /// The form of the term's learned scale γ.
  @Scheduled public var form = CrossScaleForm.raw

  public init() {}

  public mutating func options(_ map: FieldMap) { map.field(CrossScaleForm.key, &$form) }

  public func products(_ size: ObjectiveSize) -> TermProducts {
    TermProducts(similarities: size.teacher, gradients: size.teacher)
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> {
    ICL(parameters)
  }
}

/// Interactive contrastive learning (CLIP-KD): student anchors find their partner among the teacher's rows of the other
/// modality.
///
/// L = 1/(2N) Σ_i [ lse_j(γ ũ_i·y_j) − γ ũ_i·y_i + lse_j(γ ṽ_i·x_j) − γ ṽ_i·x_i ]. The keys are the teacher's and have
/// no gradient, so G_ij = (1/2N)(softmax_ij − [i = j]), dŨ = γ G Y, and each rank needs only its own anchors.
final class ICL<S: Scalar>: DistillationTerm {
  var weights: Modalities<RowVector<S>>? { rowWeight }

  private let tiles: Tiles<S>
  private let gamma: CrossScale<S>
  private let lse = Modalities(image: Buffer<S>(), text: Buffer<S>())
  private let sums = Buffer<S>()
  private let rowWeight = Modalities(image: RowVector<S>(), text: RowVector<S>())
  private var share = 0.0

  init(_ parameters: ObjectiveParameters<S>) {
    tiles = parameters.tiles
    gamma = parameters.sharedCrossScale()
  }

  func rowLosses(_ context: LossContext<S>) {
    let settings = context.options[ICLSettings.self]
    let scale = gamma.value(settings.form)
    let (student, teacher) = (context.projected, context.teachers[0].rows)
    let image = loss(student.image, teacher.text, scale, lse.image)
    let text = loss(student.text, teacher.image, scale, lse.text)
    share = (image + text) / Double(2 * context.batch.count)
    rowWeight.set(context.share(of: settings.weight.wrappedValue), context.batch)
  }

  /// Returns the sum of the local anchors' losses.
  private func loss(_ anchors: UnitRows<S>, _ keys: UnitRows<S>, _ scale: S, _ memory: Buffer<S>) -> Double {
    let b = anchors.own.rows
    let lse = memory.tensor(Shape(b))
    tiles.normalizers(anchors.own, keys.all, scale: scale, into: lse, sums: sums)
    return (0..<b).reduce(0.0) {
      $0 + Double(lse[$1]) - Double(scale) * dot(anchors.own.rows($1..<$1 + 1), keys.own.rows($1..<$1 + 1))
    }
  }

  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    let settings = context.options[ICLSettings.self]
    let scale = gamma.value(settings.form)
    let (student, teacher) = (context.projected, context.teachers[0].rows)
    let image = gradient(student.image, teacher.text, scale, (lse.image, rowWeight.image), context.batch)
    let text = gradient(student.text, teacher.image, scale, (lse.text, rowWeight.text), context.batch)
    gamma.add(image + text)
    return TermOutcome(settings, share: share)
  }

  /// Adds to the anchors' gradient, and returns this rank's share of the scale's gradient.
  private func gradient(
    _ anchors: UnitRows<S>, _ keys: UnitRows<S>, _ scale: S, _ rows: (lse: Buffer<S>, weight: RowVector<S>),
    _ batch: LocalBatch
  ) -> Double {
    let lse = rows.lse.tensor(Shape(anchors.own.rows))
    return tiles.gradient(anchors.own, keys.all, scale: scale, into: anchors.gradient) {
      tile, own, columns, along in
      contrastiveGradient(
        tile, scale: scale, rowLSE: lse.slice(own), rowWeight: rows.weight.own.slice(own), columns: nil,
        diagonal: batch.first + own.lowerBound - columns.lowerBound, along: along)
    }
  }
}
