import Foundation
import Tensor
import TestSupport
import Testing

@Suite struct ContrastiveKernelTests {
  @Test(arguments: [1, 2, 5, 13]) func logSumExpDoesNotDependOnTiles(tile: Int) {
    compareLogSumExp(Double.self, tile)
    compareLogSumExp(Float.self, tile)
  }

  private func compareLogSumExp<S: Scalar>(_: S.Type, _ tile: Int) {
    let (b, n) = (7, 13)
    let z = Tensor<S>.random(Shape(b, n), "z", bound: 50)
    let (maximum, sum) = (Tensor<S>(Shape(b)), Tensor<S>(Shape(b)))
    fill(maximum, -S.infinity)
    for start in stride(from: 0, to: n, by: tile) {
      let columns = start..<min(start + tile, n)
      let part = Tensor(Shape(b, columns.count), (0..<b).flatMap { i in columns.map { z[i * n + $0] } })
      foldLogSumExp(part, maximum: maximum, sum: sum)
    }
    finishLogSumExp(maximum: maximum, sum: sum)
    let p = z.doubles
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
    foldLogSumExp(Tensor(Shape(4, 2), z), maximum: maximum, sum: sum)
    foldLogSumExp(Tensor(Shape(4, 1), [1, 1, 1, 1]), maximum: maximum, sum: sum)
    finishLogSumExp(maximum: maximum, sum: sum)
    #expect(maximum[0].isNaN && maximum[1].isNaN && !maximum[2].isFinite && maximum[3] == 3e38)
  }

  @Test(arguments: [0, 2, -4, 3, -1]) func gradientOfATile(diagonal: Int) {
    compareGradient(Double.self, diagonal)
    compareGradient(Float.self, diagonal)
  }

  private func compareGradient<S: Scalar>(_: S.Type, _ diagonal: Int) {
    let (b, t) = (5, 4)
    let z = Tensor<S>.random(Shape(b, t), "z", bound: 3)
    let (rows, columns) = (
      Tensor<S>.random(Shape(b), "rows", bound: 2), Tensor<S>.random(Shape(t), "columns", bound: 2)
    )
    let (p, r, c) = (z.doubles, rows.doubles, columns.doubles)
    let total = contrastiveGradient(z, rowLSE: rows, columnLSE: columns, diagonal: diagonal, factor: S(0.25))
    var (sum, size) = (0.0, 0.0)
    for i in 0..<b {
      for j in 0..<t {
        let value = p[i * t + j]
        let exponentials = exp(value - r[i]) + exp(value - c[j])
        let expected = 0.25 * (exponentials - (j == diagonal + i ? 2 : 0))
        #expect(abs(Double(z[i * t + j]) - expected) <= S.roundoff * 12 * (exponentials + 2) / 4, "[\(i), \(j)]")
        sum += expected * value
        size += 0.25 * (exponentials + 2) * abs(value)
      }
    }
    #expect(abs(total - sum) <= S.roundoff * Double(12 + t) * size)
  }
}
