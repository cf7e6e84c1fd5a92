public import Tensor

/// Returns the unit embedding of each class [C, d] for zero-shot classification: the normalised mean of the unit
/// embeddings of its P prompts, given those of all prompts [C · P, d], which need not be unit vectors, class by class.
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
