internal import Tensor

/// The collectives that an objective calls in a step. They are found by running it on a few made-up pairs with a rank
/// that counts them, so that they cannot differ from what the terms do.
public struct ObjectiveTraffic: Equatable, Sendable {
  /// The width of the rows in each all-gather: that of embeddings, or 1 for vectors.
  public let gatheredColumns: [Int]
  /// The number of Doubles in each all-reduce (sum or maximum).
  public let reducedNumbers: [Int]

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
    let features = Modalities { Tensor<Float>(Shape(count, studentWidth)) }
    var made = features.both
    for index in 0..<(teacherWidth == nil ? 0 : 1 + others.count) {
      let teacher = objective.teacherRows(0..<count, of: count, teacher: index)
      made += [teacher.image, teacher.text]
    }
    // Unit rows that differ.
    for rows in made {
      fill(rows, 0)
      for row in 0..<count { rows[row * rows.columns + row % rows.columns] = 1 }
    }
    let ranks = CountingRank()
    do {
      _ = try objective.accumulate(
        image: features.image, text: features.text, rows: 0..<count, count: count, logitScale: logitScale,
        teacherScale: teacherWidth.map { _ in 1 }, ranks: ranks)
    } catch { preconditionFailure("a rank without others cannot fail: \(error)") }
    (gatheredColumns, reducedNumbers) = (ranks.gathered, ranks.reduced)
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
