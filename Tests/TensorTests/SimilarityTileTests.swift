import Foundation
import Tensor
import TestSupport
import Testing

@Suite struct SimilarityTileTests {
  @Test(arguments: [1, 2, 5, 13]) func logSumExpDoesNotDependOnTiles(tile: Int) {
    compareLogSumExp(Double.self, tile)
    compareLogSumExp(Float.self, tile)
  }

  private func compareLogSumExp<S: Scalar>(_: S.Type, _ tile: Int) {
    let (b, n) = (7, 13)
    let (z, scale) = (Tensor<S>.random(Shape(b, n), "z", bound: 25), S(2))
    let (maximum, sum) = (Tensor<S>(Shape(b)), Tensor<S>(Shape(b)))
    fill(maximum, -S.infinity)
    for start in stride(from: 0, to: n, by: tile) {
      let columns = start..<min(start + tile, n)
      let part = Tensor(Shape(b, columns.count), (0..<b).flatMap { i in columns.map { z[i * n + $0] } })
      foldLogSumExp(part, scale: scale, maximum: maximum, sum: sum)
    }
    finishLogSumExp(maximum: maximum, sum: sum)
    let p = z.doubles.map { 2 * $0 }
    for i in 0..<b {
      let expected = log(p[i * n..<(i + 1) * n].reduce(0) { $0 + exp($1) })
      // Differences of numbers below 50 are rounded, which moves exponentials by as much in relative terms.
      #expect(abs(Double(maximum[i]) - expected) <= S.roundoff * (100 + 50 + Double(2 * n)), "row \(i)")
    }
  }

  @Test func rowsOfWhatIsNotFinite() {
    let (maximum, sum) = (Tensor<Float>(Shape(4)), Tensor<Float>(Shape(4)))
    fill(maximum, -.infinity)
    let z: [Float] = [.nan, 1, 1, .nan, .infinity, 1, -3e38, 3e38]
    foldLogSumExp(Tensor(Shape(4, 2), z), scale: 1, maximum: maximum, sum: sum)
    foldLogSumExp(Tensor(Shape(4, 1), [1, 1, 1, 1]), scale: 1, maximum: maximum, sum: sum)
    finishLogSumExp(maximum: maximum, sum: sum)
    #expect(maximum[0].isNaN && maximum[1].isNaN && !maximum[2].isFinite && maximum[3] == 3e38)
  }

  @Test(arguments: [0, 2, -4, 3, -1]) func gradientOfATile(diagonal: Int) {
    compareGradient(Double.self, diagonal)
    compareGradient(Float.self, diagonal)
  }

  private func compareGradient<S: Scalar>(_: S.Type, _ diagonal: Int) {
    for isOneSided in [false, true] {
      let (b, t) = (5, 4)
      let (z, scale) = (Tensor<S>.random(Shape(b, t), "z", bound: 1.5), S(2))
      func vector(_ name: String, _ count: Int) -> Tensor<S> { .random(Shape(count), name, bound: 2) }
      let (rows, columns) = (vector("rows", b), vector("columns", t))
      let (rowWeights, columnWeights, along) = (vector("a", b), vector("w", t), vector("along", b))
      let (p, r, c) = (z.doubles, rows.doubles, columns.doubles)
      let (a, w, before) = (rowWeights.doubles, isOneSided ? [0, 0, 0, 0] : columnWeights.doubles, along.doubles)
      contrastiveGradient(
        z, scale: scale, rowLSE: rows, rowWeight: rowWeights, columns: isOneSided ? nil : (columns, columnWeights),
        diagonal: diagonal, along: along)
      for i in 0..<b {
        var (sum, size) = (before[i], abs(before[i]))
        for j in 0..<t {
          let product = p[i * t + j]
          let (down, across) = (a[i] * exp(2 * product - r[i]), w[j] * exp(2 * product - c[j]))
          let expected = down + across - (j == diagonal + i ? a[i] + w[j] : 0)
          let scale = abs(down) + abs(across) + abs(a[i]) + abs(w[j])
          #expect(abs(Double(z[i * t + j]) - expected) <= S.roundoff * 12 * scale, "[\(i), \(j)]")
          sum += expected * product
          size += scale * abs(product)
        }
        #expect(abs(Double(along[i]) - sum) <= S.roundoff * Double(12 + t) * size)
      }
    }
  }
}
