public import Tensor

/// Resizes the positional embedding of a vision transformer, [1 + g², w] → [1 + G², w], as open_clip's
/// `resize_pos_embed` does (torch's bicubic interpolation with antialias, `align_corners` false). The class token's row
/// stays as it is; the rest is an image of g × g points with w channels, resized in both directions. Point i of G is
/// the weighted mean of the points x with |x + ½ − (i + ½) s| < 2 max(s, 1), s = g / G, whose weight is the cubic with
/// a = −½ of that distance over max(s, 1). Sums are in Double.
public func resizedPositions(_ positions: Tensor<Float>, to grid: Int) -> Tensor<Float> {
  let width = positions.columns
  let old = Int(Double(positions.rows - 1).squareRoot().rounded())
  precondition(old > 0 && old * old + 1 == positions.rows && grid > 0, "positions of \(positions.shape) are no square")
  guard old != grid else { return Tensor(positions.shape, positions.array) }
  let taps = (0..<grid).map { cubicTaps(of: $0, from: old, to: grid) }
  /// [lines, g, run] → [lines, G, run].
  func resized(_ source: [Double], lines: Int, run: Int) -> [Double] {
    var result = [Double](repeating: 0, count: lines * grid * run)
    for line in 0..<lines {
      for (point, tap) in taps.enumerated() {
        for (index, weight) in tap.weights.enumerated() {
          let (from, to) = ((line * old + tap.first + index) * run, (line * grid + point) * run)
          for at in 0..<run { result[to + at] += weight * source[from + at] }
        }
      }
    }
    return result
  }
  // Across first, then down: [g, G, w], then [G, G, w].
  let across = resized(positions.array.dropFirst(width).map(Double.init), lines: old, run: width)
  let points = resized(across, lines: 1, run: grid * width)
  return Tensor(Shape(1 + grid * grid, width), positions.rows(0..<1).array + points.map(Float.init))
}

/// Returns the first of the points of a line from which a point of the resized line is computed, and their weights.
private func cubicTaps(of index: Int, from input: Int, to output: Int) -> (first: Int, weights: [Double]) {
  let scale = Double(input) / Double(output)
  let filter = max(scale, 1)
  let center = (Double(index) + 0.5) * scale
  let first = max(Int(center - 2 * filter + 0.5), 0)
  let end = min(Int(center + 2 * filter + 0.5), input)
  let raw = (first..<end).map { ResampleFilter.bicubic.weight((Double($0) - center + 0.5) / filter) }
  let sum = raw.reduce(0, +)
  return (first, raw.map { $0 / sum })
}
