import Foundation

/// CLIP's loss and its gradients from the whole N × N matrix, in Double.
struct PlainContrastive {
  let value: Double
  /// With respect to the raw features.
  let image: [Double]
  let text: [Double]
  let logitScale: Double

  init(image: [Double], text: [Double], width: Int, logitScale: Double) {
    let rows = { (x: [Double]) in stride(from: 0, to: x.count, by: width).map { Array(x[$0..<$0 + width]) } }
    let (rawImages, rawTexts) = (rows(image), rows(text))
    let (u, v) = (rawImages.map(Self.unit), rawTexts.map(Self.unit))
    let (n, alpha) = (u.count, exp(logitScale))
    let z = u.map { a in v.map { alpha * Self.dot(a, $0) } }
    let columns = (0..<n).map { j in z.map { $0[j] } }
    let (rowSums, columnSums) = (z.map(Self.logSumExp), columns.map(Self.logSumExp))
    let share = 1 / Double(2 * n)
    var (value, slope) = (0.0, 0.0)
    var du = [[Double]](repeating: [Double](repeating: 0, count: width), count: n)
    var dv = du
    for i in 0..<n {
      value += share * (rowSums[i] + columnSums[i] - 2 * z[i][i])
      for j in 0..<n {
        var g = exp(z[i][j] - rowSums[i]) + exp(z[i][j] - columnSums[j])
        if i == j { g -= 2 }
        g *= share
        slope += g * z[i][j]
        for c in 0..<width {
          du[i][c] += alpha * g * v[j][c]
          dv[j][c] += alpha * g * u[i][c]
        }
      }
    }
    self.value = value
    self.logitScale = slope
    self.image = (0..<n).flatMap { Self.throughNorm(du[$0], rawImages[$0]) }
    self.text = (0..<n).flatMap { Self.throughNorm(dv[$0], rawTexts[$0]) }
  }

  private static func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
  private static func unit(_ x: [Double]) -> [Double] { x.map { $0 / dot(x, x).squareRoot() } }

  private static func logSumExp(_ x: [Double]) -> Double {
    let largest = x.max() ?? 0
    return largest + log(x.reduce(0) { $0 + exp($1 - largest) })
  }

  private static func throughNorm(_ gradient: [Double], _ raw: [Double]) -> [Double] {
    let (y, norm) = (unit(raw), dot(raw, raw).squareRoot())
    let along = dot(gradient, y)
    return zip(gradient, y).map { ($0 - $1 * along) / norm }
  }
}
