public import Settings
public import Tensor

/// The settings of the term that compares cosines.
public struct GramSettings: TermSettings {
  public static let key = "gram"
  public static let needs: TermNeeds = [.teacherEmbeddings]
  public var weight = Scheduled(0.0)
  /// The weights of the pairs.
  @Scheduled public var weights = GramWeights.uniform

  public mutating func options(_ map: FieldMap) { map.field("gram_weights", &$weights) }

  public func products(_ size: ObjectiveSize) -> TermProducts {
    TermProducts(similarities: size.student + size.teacher, gradients: size.student)
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> {
    Gram(parameters.tiles)
  }
}

/// The weights of pairs in `gram`: equal, or proportional to the absolute difference of the cosines, with or without
/// gradient through the weights.
public enum GramWeights: String, CaseIterable, Schedulable {
  case uniform, difference
  case differenceNoGradient = "difference_no_grad"
}

/// The squared difference of the student's and the teacher's cosines within a modality: the simplest relational loss, a
/// control for those with softmaxes.
///
///     δ_ij = u_i·u_j − x_i·x_j     L = Σ_{i≠j} w_ij δ_ij², summed over images (u, x) and captions (v, y)
///
/// w_ij = 1/(N (N − 1)), or |δ_ij|/T with T = Σ_{i≠j} |δ_ij|. ∂L/∂δ_ij = 2 w_ij δ_ij; with the weights' gradient it is
/// (3 δ_ij |δ_ij| − L sign δ_ij)/T. Because U holds both rows and columns, du_i = Σ_j 2 ∂L/∂δ_ij u_j. Beyond the rows
/// that all terms share, ranks exchange only a few sums.
final class Gram<S: Scalar>: DistillationTerm {
  private let tiles: Tiles<S>

  init(_ tiles: Tiles<S>) { self.tiles = tiles }

  func accumulate(_ context: LossContext<S>) throws -> TermOutcome {
    let settings = context.options[GramSettings.self]
    let (batch, weights) = (context.batch, settings.weights)
    var share = 0.0
    for modality in Modality.allCases {
      let (student, teacher) = (context.student[modality], context.teachers[0].rows[modality])
      // Σ |δ| and Σ w T δ².
      var sums = [0.0, 0.0]
      tiles.forEachPair(student, teacher) { row, column, c, r in
        guard batch.rows.lowerBound + row != column else { return }
        let gap = abs(Double(c) - Double(r))
        sums[0] += gap
        sums[1] += weights == .uniform ? gap * gap : gap * gap * gap
      }
      let local = sums[1]
      try context.ranks.allReduce(&sums)
      let total = weights == .uniform ? Double(batch.count * (batch.count - 1)) : sums[0]
      // Without pairs, or without differences, there is nothing to weigh.
      let reciprocal = total == 0 ? 0 : 1 / total
      share += local * reciprocal
      let (loss, factor) = (sums[1] * reciprocal, 2 * settings.weight.wrappedValue * reciprocal)
      _ = tiles.gradient(student.own, student.all, scale: 1, into: student.gradient) { tile, own, columns, _ in
        let other = tiles.teacherProducts(teacher.own.rows(own), teacher.all.rows(columns))
        let diagonal = batch.diagonal(own, columns)
        for index in 0..<tile.count {
          let isSelf = index % columns.count == diagonal + index / columns.count
          let slope = Self.slope(Double(tile[index]) - Double(other[index]), weights, loss)
          tile[index] = isSelf ? 0 : S(factor * slope)
        }
      }
    }
    return TermOutcome(share: share)
  }

  /// Returns T ∂L/∂δ, where T is the number of pairs under equal weights.
  private static func slope(_ delta: Double, _ weights: GramWeights, _ loss: Double) -> Double {
    switch weights {
    case .uniform: 2 * delta
    case .difference: 3 * delta * abs(delta) - (delta > 0 ? loss : delta < 0 ? -loss : 0)
    case .differenceNoGradient: 2 * delta * abs(delta)
    }
  }
}
