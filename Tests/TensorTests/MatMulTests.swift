import Tensor
import TestSupport
import Testing

/// C = α op(A) op(B) + β C against three plain loops.
@Suite struct MatMulTests {
  struct Sizes: CustomTestStringConvertible {
    let m: Int
    let n: Int
    let k: Int
    var testDescription: String { "\(m)×\(k)·\(k)×\(n)" }
  }
  static let sizes = [
    Sizes(m: 1, n: 1, k: 1), Sizes(m: 3, n: 1, k: 7), Sizes(m: 1, n: 5, k: 2), Sizes(m: 13, n: 11, k: 17),
    Sizes(m: 37, n: 41, k: 3), Sizes(m: 2, n: 67, k: 129),
  ]

  @Test(arguments: sizes) func agreesWithLoopsInDouble(sizes: Sizes) { compare(Double.self, sizes) }
  @Test(arguments: sizes) func agreesWithLoopsInSinglePrecision(sizes: Sizes) { compare(Float.self, sizes) }

  private func compare<S: Scalar>(_: S.Type, _ sizes: Sizes) {
    let (m, n, k) = (sizes.m, sizes.n, sizes.k)
    for (transposeA, transposeB) in [(false, false), (true, false), (false, true), (true, true)] {
      for (alpha, beta) in [(1.0, 0.0), (1, 1), (-0.5, 2)] {
        let a = Tensor<S>.random(transposeA ? Shape(k, m) : Shape(m, k), "a")
        let b = Tensor<S>.random(transposeB ? Shape(n, k) : Shape(k, n), "b")
        let c = Tensor<S>.random(Shape(m, n), "c")
        let (x, y, before) = (a.doubles, b.doubles, c.doubles)
        matmul(a, b, into: c, transposeA: transposeA, transposeB: transposeB, alpha: S(alpha), beta: S(beta))
        for i in 0..<m {
          for j in 0..<n {
            var (sum, size) = (0.0, 0.0)
            for l in 0..<k {
              let product = (transposeA ? x[l * m + i] : x[i * k + l]) * (transposeB ? y[j * k + l] : y[l * n + j])
              sum += product
              size += abs(product)
            }
            let expected = alpha * sum + beta * before[i * n + j]
            // k products and sums, and two more for α and β, each rounded at most once.
            let bound = S.roundoff * Double(k + 3) * (abs(alpha) * size + abs(beta * before[i * n + j]))
            #expect(
              abs(Double(c[i * n + j]) - expected) <= bound,
              "[\(i), \(j)] with α \(alpha), β \(beta), \(transposeA), \(transposeB)")
          }
        }
      }
    }
  }

  @Test func whatStoodInTheResultDoesNotMatter() {
    let c = Tensor<Float>(Shape(2, 2), [.nan, .infinity, -.infinity, .nan])
    matmul(Tensor(Shape(2, 1), [1, 2]), Tensor(Shape(1, 2), [3, 4]), into: c)
    #expect(c.array == [3, 4, 6, 8])
  }

  @Test func notANumberIsNotSwallowed() {
    let c = Tensor<Float>(Shape(2, 2))
    matmul(Tensor(Shape(2, 2), [1, .nan, 1, 1]), Tensor(Shape(2, 2), [0, 1, 0, 1]), into: c)
    #expect(c[0].isNaN && c[1].isNaN && c[2] == 0 && c[3] == 2)
  }

  @Test func anEmptySumIsZeroAndAnEmptyResultIsLeftAlone() {
    let c = Tensor<Double>(Shape(2, 2), [1, 2, 3, .nan])
    let empty = (Tensor<Double>(Shape(2, 0)), Tensor<Double>(Shape(0, 2)))
    matmul(empty.0, empty.1, into: c, beta: 0)
    #expect(c.array == [0, 0, 0, 0])
    copy(Tensor(Shape(4), [1, 2, 3, 4]), into: c)
    matmul(empty.0, empty.1, into: c, beta: 1)
    #expect(c.array == [1, 2, 3, 4])
    matmul(empty.0, empty.1, into: c, beta: 3)
    #expect(c.array == [3, 6, 9, 12])
    matmul(empty.1, Tensor(Shape(2, 0)), into: Tensor(Shape(0, 0)))
  }

  @Test func gradients() {
    let (a, b) = (Tensor<Double>.random(Shape(3, 5), "a"), Tensor<Double>.random(Shape(5, 2), "b"))
    let (da, db) = (Tensor<Double>(a.shape), Tensor<Double>(b.shape))
    let report = GradientCheck([.init("a", a, gradient: da), .init("b", b, gradient: db, accumulates: false)]).run {
      let c = Tensor<Double>(Shape(3, 2))
      matmul(a, b, into: c)
      return c.array
    } backward: { weights in
      let dc = Tensor(Shape(3, 2), weights)
      matmul(dc, b, into: da, transposeB: true, beta: 1)
      matmul(a, dc, into: db, transposeA: true)
    }
    #expect(report.passed, "\(report)")
  }
}
