public import Settings
public import Tensor

/// The settings of relational distance distillation.
public struct RKDSettings: TermSettings {
  public static let key = "rkd"
  public static let needs: TermNeeds = [.teacherEmbeddings]

  public var weight = Scheduled(0.0)
  /// β of the smooth absolute value: smaller differences count by their square.
  @Scheduled public var beta = 1.0

  public init() {}

  public mutating func options(_ map: FieldMap) { map.field("rkd_beta", &$beta) }

  public var mistakes: [(path: String, text: String)] {
    $beta.mistakes("rkd_beta", expected: "more than 0") { $0 > 0 }
  }

  public func products(_ size: ObjectiveSize) -> TermProducts {
    TermProducts(similarities: size.student + size.teacher, gradients: size.student, passes: 3)
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> {
    RKD(parameters.tiles)
  }
}

/// Relational distance distillation: the distance part of RKD (Park et al., CVPR 2019), for each modality over the
/// global batch. Rows that are far apart for the teacher become far apart for the student.
///
///     d_ij = ‖u_i − u_j‖ = (2 − 2 u_i·u_j)^½     μ = the mean of all d_ij > 0     the teacher's δ_ij and ν likewise
///     L = 1/N² Σ_ij h(d_ij/μ − δ_ij/ν), summed over images and captions
///
/// with h(e) = e²/2β below β and |e| − β/2 beyond. With M distances above 0, h' = ∂h/∂e and s = Σ h'_ij d_ij,
/// ∂L/∂d_ij = (h'_ij/μ − s/(μ² M))/N². Because d² = 2 − 2 u_i·u_j and d is symmetric, the rows' gradient is
/// du_i = Σ_j −2 ∂L/∂d_ij u_j/d_ij. Distances of 0 (a row to itself, equal rows) have no gradient. Beyond the rows that
/// all terms share, ranks exchange only a few sums.
final class RKD<S: Scalar>: DistillationTerm {
  /// Squared distances below this count as 0, because each is a difference of two nearly equal numbers.
  private static var least: Double { 8 * Double(S.ulpOfOne) }

  private let tiles: Tiles<S>
  private var means = Modalities(image: Means(), text: Means())

  /// Sums and means over all distances of a modality.
  private struct Means {
    /// The mean distances μ and ν.
    var student = 0.0
    var teacher = 0.0
    /// M, the number of distances above 0, and s.
    var count = 0.0
    var slope = 0.0
  }

  init(_ tiles: Tiles<S>) { self.tiles = tiles }

  /// One modality's rows of student and teacher.
  private struct Rows {
    let student: UnitRows<S>
    let teacher: UnitRows<S>
  }

  private func rows(_ context: LossContext<S>) -> Modalities<Rows> {
    let teacher = context.teachers[0].rows
    return Modalities(
      image: Rows(student: context.student.image, teacher: teacher.image),
      text: Rows(student: context.student.text, teacher: teacher.text))
  }

  func rowLosses(_ context: LossContext<S>) throws {
    let rows = rows(context)
    means.image = try measure(rows.image, context)
    means.text = try measure(rows.text, context)
  }

  /// Computes the means over all ranks.
  private func measure(_ rows: Rows, _ context: LossContext<S>) throws -> Means {
    var sums = [0.0, 0.0, 0.0, 0.0]
    forEachDistance(rows) { student, teacher in
      sums[0] += student
      sums[1] += teacher
      if student > 0 { sums[2] += 1 }
      if teacher > 0 { sums[3] += 1 }
    }
    try context.ranks.allReduce(&sums)
    // If all rows are equal, every distance is 0 and any mean will do.
    return Means(
      student: sums[0] == 0 ? 1 : sums[0] / sums[2], teacher: sums[1] == 0 ? 1 : sums[1] / sums[3], count: sums[2])
  }

  func accumulate(_ context: LossContext<S>) throws -> TermOutcome {
    let settings = context.options[RKDSettings.self]
    let rows = rows(context)
    var shares = [0.0, 0.0]
    var slopes = [0.0, 0.0]
    for (index, modality) in [(rows.image, means.image), (rows.text, means.text)].enumerated() {
      let (student, teacher) = (modality.1.student, modality.1.teacher)
      forEachDistance(modality.0) { d, delta in
        let (value, slope) = Self.smooth(d / student - delta / teacher, settings.beta)
        shares[index] += value
        slopes[index] += slope * d
      }
    }
    try context.ranks.allReduce(&slopes)
    (means.image.slope, means.text.slope) = (slopes[0], slopes[1])
    let entries = Double(context.batch.count) * Double(context.batch.count)
    let factor = settings.weight.wrappedValue / entries
    backward(rows.image, means.image, factor, settings.beta)
    backward(rows.text, means.text, factor, settings.beta)
    return TermOutcome(settings, share: (shares[0] + shares[1]) / entries)
  }

  /// Adds the gradient of factor · Σ_ij h_ij to the local rows.
  private func backward(_ rows: Rows, _ means: Means, _ factor: Double, _ beta: Double) {
    let all = means.count == 0 ? 0 : means.slope / (means.student * means.student * means.count)
    _ = tiles.gradient(rows.student.own, rows.student.all, scale: 1, into: rows.student.gradient) {
      tile, own, columns, _ in
      let other = tiles.teacherProducts(rows.teacher.own.rows(own), rows.teacher.all.rows(columns))
      for index in 0..<tile.count {
        let d = Self.distance(tile[index])
        guard d > 0 else {
          // A NaN stays a NaN, so that the step is refused.
          tile[index] = d.isNaN ? S(d) : 0
          continue
        }
        let error = d / means.student - Self.distance(other[index]) / means.teacher
        tile[index] = S(-2 * factor * (Self.smooth(error, beta).slope / means.student - all) / d)
      }
    }
  }

  /// Calls `body` with the student's and the teacher's distance for every pair of a local and a global row.
  private func forEachDistance(_ rows: Rows, _ body: (Double, Double) -> Void) {
    tiles.forEach(rows.student.own.rows, rows.student.all.rows) { own, columns in
      let student = tiles.products(rows.student.own.rows(own), rows.student.all.rows(columns))
      let teacher = tiles.teacherProducts(rows.teacher.own.rows(own), rows.teacher.all.rows(columns))
      for index in 0..<student.count { body(Self.distance(student[index]), Self.distance(teacher[index])) }
    }
  }

  /// Returns the distance of two unit rows, from their inner product.
  private static func distance(_ product: S) -> Double {
    let square = 2 - 2 * Double(product)
    return square < least ? 0 : square.squareRoot()
  }

  /// Returns h(e) and h'(e).
  private static func smooth(_ error: Double, _ beta: Double) -> (value: Double, slope: Double) {
    let size = abs(error)
    if size < beta { return (error * error / (2 * beta), error / beta) }
    return (size - beta / 2, error < 0 ? -1 : 1)
  }
}
