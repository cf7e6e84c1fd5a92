public import Settings
public import Tensor

/// The settings of relational distance distillation.
public struct RKDSettings: TermSettings {
  public static let key = "rkd"
  public static let needs: TermNeeds = [.teacherEmbeddings]
  public var weight = Scheduled(0.0)
  /// β of the smooth absolute value: smaller differences count by their square.
  @Scheduled public var beta = 1.0

  public mutating func options(_ map: FieldMap) { map.field("rkd_beta", &$beta) }
  public var mistakes: [Mistake] { $beta.mistakes("rkd_beta", expected: "more than 0") { $0 > 0 } }

  public func products(_ size: ObjectiveSize) -> TermProducts {
    TermProducts(similarities: size.student + size.teacher, gradients: size.student, passes: 3)
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> { RKD(parameters.tiles) }
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
  /// The means of images and of captions.
  private var means: [Means] = []

  /// The mean distances μ and ν, and M, the number of the student's distances above 0.
  private struct Means { let student, teacher, count: Double }

  init(_ tiles: Tiles<S>) { self.tiles = tiles }

  /// The rows of images, and those of captions.
  private func rows(_ context: LossContext<S>) -> [(student: UnitRows<S>, teacher: UnitRows<S>)] {
    zip(context.student.both, context.teachers[0].rows.both).map { ($0, $1) }
  }

  /// Computes the means over all ranks.
  func rowLosses(_ context: LossContext<S>) throws {
    means = try rows(context).map { student, teacher in
      var sums = [0.0, 0.0, 0.0, 0.0]
      forEachDistance(student, teacher) { d, delta in
        sums[0] += d
        sums[1] += delta
        if d > 0 { sums[2] += 1 }
        if delta > 0 { sums[3] += 1 }
      }
      try context.ranks.allReduce(&sums)
      // If all rows are equal, every distance is 0 and any mean will do.
      return Means(
        student: sums[0] == 0 ? 1 : sums[0] / sums[2], teacher: sums[1] == 0 ? 1 : sums[1] / sums[3], count: sums[2])
    }
  }

  func accumulate(_ context: LossContext<S>) throws -> TermOutcome {
    let settings = context.options[RKDSettings.self]
    let (rows, beta) = (self.rows(context), settings.beta)
    var (shares, slopes) = ([0.0, 0.0], [0.0, 0.0])
    for (index, mean) in means.enumerated() {
      forEachDistance(rows[index].student, rows[index].teacher) { d, delta in
        let (value, slope) = Self.smooth(d / mean.student - delta / mean.teacher, beta)
        shares[index] += value
        slopes[index] += slope * d
      }
    }
    try context.ranks.allReduce(&slopes)
    let entries = Double(context.batch.count) * Double(context.batch.count)
    let factor = settings.weight.wrappedValue / entries
    for (index, mean) in means.enumerated() {
      let (student, teacher) = rows[index]
      let all = mean.count == 0 ? 0 : slopes[index] / (mean.student * mean.student * mean.count)
      _ = tiles.gradient(student.own, student.all, scale: 1, into: student.gradient) { tile, own, columns, _ in
        let other = tiles.teacherProducts(teacher.own.rows(own), teacher.all.rows(columns))
        for index in 0..<tile.count {
          let d = Self.distance(tile[index])
          let slope = Self.smooth(d / mean.student - Self.distance(other[index]) / mean.teacher, beta).slope
          // A NaN stays a NaN, so that the step is refused.
          tile[index] = d > 0 ? S(-2 * factor * (slope / mean.student - all) / d) : d.isNaN ? S(d) : 0
        }
      }
    }
    return TermOutcome(share: (shares[0] + shares[1]) / entries)
  }

  /// Calls `body` with the student's and the teacher's distance for every pair of a local and a global row.
  private func forEachDistance(_ student: UnitRows<S>, _ teacher: UnitRows<S>, _ body: (Double, Double) -> Void) {
    tiles.forEachPair(student, teacher) { _, _, c, r in body(Self.distance(c), Self.distance(r)) }
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
