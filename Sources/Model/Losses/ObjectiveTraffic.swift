internal import Tensor

/// The collectives that an objective calls in a step. They are found by running it on a few made-up pairs with a rank
/// that counts them, so that they cannot differ from what the terms do.
public struct ObjectiveTraffic: Equatable, Sendable {
  /// The width of the rows in each all-gather: that of embeddings, or 1 for vectors.
  public private(set) var gatheredColumns: [Int] = []
  /// The number of Doubles in each all-reduce (sum or maximum).
  public private(set) var reducedNumbers: [Int] = []

  /// `teacherWidth` is nil without a teacher; `others` are the widths of the teachers after the first.
  public init(_ options: ObjectiveOptions, studentWidth: Int, teacherWidth: Int?, others: [Int] = []) {
    let store = ParameterStore<Float>()
    let logitScale = store.declare(CLIPConfig.logitScale, Shape(), .constant(1))
    let objective = Objective(
      options, studentWidth: studentWidth, teacherWidth: teacherWidth, others: others.map { ($0, 1) },
      declaringIn: store)
    store.allocate(gradients: true)
    store.initialize(seed: 0)
    // Terms with masked anchors need at least three pairs.
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

  /// Fills the matrix with unit rows that differ.
  private static func makeUp(_ rows: Tensor<Float>) {
    fill(rows, 0)
    for row in 0..<rows.rows { rows[row * rows.columns + row % rows.columns] = 1 }
  }
}

/// A single rank that records the calls of its collectives.
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
