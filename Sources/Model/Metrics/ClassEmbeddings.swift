public import Tensor

/// Returns the unit embedding of each class for zero-shot classification, which is the normalised mean of the unit
/// embeddings of its prompts.
///
/// - Parameters:
///   - prompts: the embeddings of the prompts, [C · P, d], with the P prompts of a class in consecutive rows. They need
///     not be unit vectors.
///   - count: P, the number of prompts for each class.
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

/// Returns the rows, [n, d], each divided by its length.
public func unitRows(_ rows: Tensor<Float>) -> Tensor<Float> {
  let units = Tensor<Float>(Shape(rows.rows, rows.columns))
  normalizeRows(rows, into: units, reciprocal: Tensor<Float>(Shape(rows.rows)))
  return units
}
