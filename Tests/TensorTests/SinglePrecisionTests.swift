import TestSupport
import Testing

@testable import Tensor

/// Products by each of the libraries that may serve them, on rows with gaps between them.
@Suite struct SinglePrecisionTests {
  struct Trial: CustomTestStringConvertible {
    let library: SinglePrecisionProducts
    let (m, n, k): (Int, Int, Int)
    var testDescription: String { "\(library.rawValue), \(m)×\(k)·\(k)×\(n)" }
  }
  static let trials = [SinglePrecisionProducts.oneDNN, .openBLAS].flatMap { library in
    [(1, 1, 1), (37, 41, 53), (1, 512, 67), (131, 1, 127), (197, 64, 3), (257, 251, 2)].map {
      Trial(library: library, m: $0.0, n: $0.1, k: $0.2)
    }
  }

  @Test(arguments: trials) func agreesWithLoops(trial: Trial) {
    let (m, n, k) = (trial.m, trial.n, trial.k)
    for (form, alpha, beta) in [(GEMM.Form.nn, 1.0, 0.0), (.tn, -0.5, 2), (.nt, 1, 1)] {
      let (rowsOfA, rowsOfB) = (form == .tn ? k : m, form == .nt ? n : k)
      let (lda, ldb, ldc) = ((form == .tn ? m : k) + 3, (form == .nt ? k : n) + 1, n + 2)
      let a = Tensor<Float>.random(Shape(rowsOfA, lda), "a")
      let b = Tensor<Float>.random(Shape(rowsOfB, ldb), "b")
      let c = Tensor<Float>.random(Shape(m, ldc), "c")
      let (x, y, before) = (a.doubles, b.doubles, c.doubles)
      // With β = 0 nothing of what stood there may remain.
      if beta == 0 { for i in 0..<m { for j in 0..<n { c.pointer[i * ldc + j] = .nan } } }
      trial.library.multiply(
        GEMM(form, m: m, n: n, k: k, lda: lda, ldb: ldb, ldc: ldc), alpha: Float(alpha), a.pointer, b.pointer,
        beta: Float(beta), c.pointer)
      var worst = 0.0
      for i in 0..<m {
        for j in 0..<n {
          var (sum, size) = (0.0, 0.0)
          for l in 0..<k {
            let first = form == .tn ? x[l * lda + i] : x[i * lda + l]
            let product = first * (form == .nt ? y[j * ldb + l] : y[l * ldb + j])
            sum += product
            size += abs(product)
          }
          let old = beta * before[i * ldc + j]
          // k products and sums, and two more for α and β, each rounded at most once.
          let bound = Float.roundoff * Double(k + 3) * (abs(alpha) * size + abs(old))
          worst = max(worst, abs(Double(c[i * ldc + j]) - (alpha * sum + old)) / bound)
        }
        // The gap between the rows stays as it was.
        for j in n..<ldc where Double(c[i * ldc + j]) != before[i * ldc + j] { worst = .infinity }
      }
      #expect(worst <= 1, "\(form) with α \(alpha), β \(beta)")
    }
  }

  @Test(arguments: [SinglePrecisionProducts.oneDNN, .openBLAS])
  func theSameProductHasTheSameBits(library: SinglePrecisionProducts) {
    let (a, b) = (Tensor<Float>.random(Shape(97, 61), "a"), Tensor<Float>.random(Shape(61, 89), "b"))
    let product = GEMM(a.shape, b.shape, into: Shape(97, 89), transposeA: false, transposeB: false)
    let results = (0..<3).map { _ in
      let c = Tensor<Float>(Shape(97, 89))
      library.multiply(product, alpha: 1, a.pointer, b.pointer, beta: 0, c.pointer)
      return c.array
    }
    #expect(results[0] == results[1] && results[1] == results[2])
  }

  @Test func smallProductsGoToOpenBLAS() {
    func library(_ side: Int) -> SinglePrecisionProducts {
      SinglePrecisionProducts.oneDNN.serving(GEMM(.nn, m: side, n: side, k: side, lda: side, ldb: side, ldc: side))
    }
    #expect(library(25) == .openBLAS && library(26) == .oneDNN)
  }
}
