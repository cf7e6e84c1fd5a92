internal import Tensor

/// What an objective asks of other ranks in a step: found by running it on a few made-up pairs with a rank that counts,
/// so it cannot differ from what the terms do.
public struct ObjectiveTraffic: Equatable, Sendable {
  /// Numbers in each row that is gathered from all ranks, one entry a gathering: widths of embeddings, 1 of vectors.
  public private(set) var gatheredColumns: [Int] = []
  /// How many numbers each sum or maximum over the ranks has; they are Doubles.
  public private(set) var reducedNumbers: [Int] = []

  /// `teacherWidth` is nil where there is no teacher, `others` are the widths of further ones.
  public init(_ options: ObjectiveOptions, studentWidth: Int, teacherWidth: Int?, others: [Int] = []) {
    let store = ParameterStore<Float>()
    let logitScale = store.declare("logit_scale", Shape(), .constant(1))
    let objective = Objective(
      options, studentWidth: studentWidth, teacherWidth: teacherWidth, others: others.map { ($0, 1) },
      declaringIn: store)
    store.allocate(gradients: true)
    store.initialize(seed: 0)
    // As many as terms need to have candidates.
    let count = 4
    if teacherWidth != nil {
      for index in 0...others.count {
        let teacher = objective.teacherRows(0..<count, of: count, teacher: index)
        Self.makeUp(teacher.image)
        Self.makeUp(teacher.text)
      }
    }
    let image = Tensor<Float>(Shape(count, studentWidth))
    let text = Tensor<Float>(Shape(count, studentWidth))
    Self.makeUp(image)
    Self.makeUp(text)
    let ranks = CountingRank()
    do {
      _ = try objective.accumulate(
        image: image, text: text, rows: 0..<count, count: count, logitScale: logitScale,
        teacherScale: teacherWidth.map { _ in 1 }, ranks: ranks)
    } catch {
      preconditionFailure("a rank without others cannot fail: \(error)")
    }
    gatheredColumns = ranks.gathered
    reducedNumbers = ranks.reduced
  }

  /// Rows of length 1 that differ.
  private static func makeUp(_ rows: Tensor<Float>) {
    fill(rows, 0)
    for row in 0..<rows.rows { rows[row * rows.columns + row % rows.columns] = 1 }
  }
}

/// The only rank, which notes what it is asked for.
private final class CountingRank: Ranks {
  private(set) var gathered: [Int] = []
  private(set) var reduced: [Int] = []

  func allGather(_ local: Tensor<Float>, into all: Tensor<Float>) {
    gathered.append(all.columns)
    copy(local, into: all)
  }
  func allReduce(_ numbers: inout [Double]) { reduced.append(numbers.count) }
  func allReduceMaximum(_ numbers: inout [Double]) { reduced.append(numbers.count) }
}
