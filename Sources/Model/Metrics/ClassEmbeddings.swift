public import Tensor

/// One embedding a class out of several prompts: the mean of their unit embeddings, made a unit again.
///
/// - Parameters:
///   - prompts: [C · P, d], the P prompts of a class one after the other; of any length.
///   - count: P.
/// - Returns: [C, d].
public func classEmbeddings(prompts: Tensor<Float>, perClass count: Int) -> Tensor<Float> {
  precondition(count > 0 && prompts.rows % count == 0, "\(prompts.shape) in \(count) prompts a class")
  let units = unitRows(prompts)
  let classes = prompts.rows / count
  let means = Tensor<Float>(Shape(classes, prompts.columns))
  let share = Tensor<Float>(Shape(1, count), [Float](repeating: 1 / Float(count), count: count))
  for index in 0..<classes {
    matmul(share, units.rows(index * count..<(index + 1) * count), into: means.rows(index..<index + 1))
  }
  return unitRows(means)
}

/// The rows divided by their lengths.
public func unitRows(_ rows: Tensor<Float>) -> Tensor<Float> {
  let units = Tensor<Float>(Shape(rows.rows, rows.columns))
  normalizeRows(rows, into: units, reciprocal: Tensor<Float>(Shape(rows.rows)))
  return units
}
