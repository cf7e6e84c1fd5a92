public import Tensor

/// Resizes the positional embedding of a vision transformer to another grid, as open_clip's `resize_pos_embed` does
/// (torch's bicubic interpolation with antialias, `align_corners` false).
///
/// `positions` is [1 + g², w] and the result [1 + G², w]. The class token's row stays as it is; the rest is an image of
/// g × g points with w channels, resized in both directions. Point i of G is the weighted mean of the points x with
/// |x + ½ − (i + ½) s| < 2 max(s, 1), s = g / G, whose weight is the cubic with a = −½ of that distance over max(s, 1).
/// Sums are in Double.
public func resizedPositions(_ positions: Tensor<Float>, to grid: Int) -> Tensor<Float> {
  let width = positions.columns
  let old = Int(Double(positions.rows - 1).squareRoot().rounded())
  precondition(old > 0 && old * old + 1 == positions.rows && grid > 0, "positions of \(positions.shape) are no square")
  guard old != grid else {
    let same = Tensor<Float>(positions.shape)
    copy(positions, into: same)
    return same
  }
  let taps = (0..<grid).map { CubicTaps(of: $0, from: old, to: grid) }
  let source = positions.array.map(Double.init)
  // Across first, then down: [g, G, w], then [G, G, w].
  var across = [Double](repeating: 0, count: old * grid * width)
  for row in 0..<old {
    for (column, tap) in taps.enumerated() {
      for (index, weight) in tap.weights.enumerated() {
        let from = (1 + row * old + tap.first + index) * width
        let to = (row * grid + column) * width
        for channel in 0..<width { across[to + channel] += weight * source[from + channel] }
      }
    }
  }
  let result = Tensor<Float>(Shape(1 + grid * grid, width))
  copy(positions.rows(0..<1), into: result.rows(0..<1))
  var line = [Double](repeating: 0, count: grid * width)
  for (row, tap) in taps.enumerated() {
    for at in line.indices { line[at] = 0 }
    for (index, weight) in tap.weights.enumerated() {
      let from = (tap.first + index) * grid * width
      for at in line.indices { line[at] += weight * across[from + at] }
    }
    for (at, value) in line.enumerated() { result[(1 + row * grid) * width + at] = Float(value) }
  }
  return result
}

/// The points of a line from which one point of the resized line is computed, and their weights.
private struct CubicTaps {
  let first: Int
  let weights: [Double]

  init(of index: Int, from input: Int, to output: Int) {
    let scale = Double(input) / Double(output)
    let filter = max(scale, 1)
    let center = (Double(index) + 0.5) * scale
    let first = max(Int(center - 2 * filter + 0.5), 0)
    let end = min(Int(center + 2 * filter + 0.5), input)
    let raw = (first..<end).map { ResampleTable.cubic((Double($0) - center + 0.5) / filter) }
    let sum = raw.reduce(0, +)
    self.first = first
    weights = raw.map { $0 / sum }
  }
}
