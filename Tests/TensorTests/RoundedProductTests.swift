import TestSupport
import Testing

@testable import Tensor

/// Products of numbers rounded to bfloat16: the rounding bit by bit, and the sums against plain loops over the rounded
/// numbers.
@Suite struct RoundedProductTests {
  private func rounded(_ values: [Float]) -> [Float] {
    let view = BFloat16Buffer().view(Shape(values.count))
    round(Tensor(Shape(values.count), values), into: view)
    return view.floats
  }

  /// Returns the nearer one of the two neighbours of x, the even one if both are equally near, by trying both.
  private func nearest(_ x: Float) -> Float {
    let below = Float(bitPattern: x.bitPattern & 0xFFFF_0000)
    let above = Float(bitPattern: (x.bitPattern & 0xFFFF_0000) &+ 0x1_0000)
    let (down, up) = (abs(Double(x) - Double(below)), abs(Double(above) - Double(x)))
    if down == up { return (below.bitPattern >> 16) & 1 == 0 ? below : above }
    return down < up ? below : above
  }

  @Test func roundsToTheNearest() {
    var values: [Float] = [
      0, -0, 1, -1, 0.1, 3.14159, 65504, 1e-38, .leastNormalMagnitude, -.leastNonzeroMagnitude, 3.3e38,
    ]
    for exponent in [-126, -3, 0, 5, 100] {
      for low in [0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF] as [UInt32] {
        for high in [0, 1, 0x7E, 0x7F] as [UInt32] {
          let bits = UInt32(exponent + 127) << 23 | high << 16 | low
          values += [Float(bitPattern: bits), -Float(bitPattern: bits)]
        }
      }
    }
    let found = rounded(values)
    for (value, result) in zip(values, found) {
      #expect(result.bitPattern == nearest(value).bitPattern, "\(value) gives \(result)")
    }
  }

  @Test func whatIsNotFiniteStaysSo() {
    let values = [
      Float.infinity, -.infinity, .nan, -.nan, .signalingNaN, Float(bitPattern: 0x7F80_0001),
      Float(bitPattern: 0x7FFF_FFFF), .greatestFiniteMagnitude,
    ]
    let found = rounded(values)
    #expect(found[0] == .infinity && found[1] == -.infinity && found[7] == .infinity)
    for value in found[2..<7] { #expect(value.isNaN) }
  }

  @Test(arguments: MatMulTests.sizes) func agreesWithLoopsInDouble(sizes: MatMulTests.Sizes) {
    compare(Double.self, sizes)
  }
  @Test(arguments: MatMulTests.sizes) func agreesWithLoopsInSinglePrecision(sizes: MatMulTests.Sizes) {
    compare(Float.self, sizes)
  }

  private func compare<S: Scalar>(_: S.Type, _ sizes: MatMulTests.Sizes) {
    let (m, n, k) = (sizes.m, sizes.n, sizes.k)
    for (transposeA, transposeB) in [(false, false), (true, false), (false, true), (true, true)] {
      for accumulate in [false, true] {
        let a = Tensor<S>.random(transposeA ? Shape(k, m) : Shape(m, k), "a")
        let b = Tensor<S>.random(transposeB ? Shape(n, k) : Shape(k, n), "b")
        let c = Tensor<S>.random(Shape(m, n), "c")
        let before = c.doubles
        // Both in one buffer, as parameters are.
        let buffer = BFloat16Buffer()
        let left: MatrixOperand<S> = buffer.operand(a, .bf16, at: 3, of: 3 + m * k + n * k)
        let right: MatrixOperand<S> = buffer.operand(b, .bf16, at: 3 + m * k, of: 3 + m * k + n * k)
        let (x, y) = (rounded(a.array.map { Float($0) }), rounded(b.array.map { Float($0) }))
        matmul(left, right, into: c, transposeA: transposeA, transposeB: transposeB, accumulate: accumulate)
        for i in 0..<m {
          for j in 0..<n {
            var (sum, size) = (0.0, 0.0)
            for l in 0..<k {
              let product =
                Double(transposeA ? x[l * m + i] : x[i * k + l]) * Double(transposeB ? y[j * k + l] : y[l * n + j])
              sum += product
              size += abs(product)
            }
            let old = accumulate ? before[i * n + j] : 0
            // Products of 8 significant bits are exact; k sums and one more are rounded.
            let bound = S.roundoff * Double(k + 1) * (size + abs(old))
            #expect(
              abs(Double(c[i * n + j]) - sum - old) <= bound, "[\(i), \(j)] \(transposeA), \(transposeB), \(accumulate)"
            )
          }
        }
      }
    }
  }

  @Test func anEmptySumIsZeroOrWhatStoodThere() {
    let c = Tensor<Float>(Shape(1, 2), [.nan, 3])
    let (a, b) = (BFloat16Buffer(), BFloat16Buffer())
    let left: MatrixOperand<Float> = a.operand(Tensor(Shape(1, 0)), .bf16)
    let right: MatrixOperand<Float> = b.operand(Tensor(Shape(0, 2)), .bf16)
    matmul(left, right, into: c, accumulate: true)
    #expect(c[0].isNaN && c[1] == 3)
    matmul(left, right, into: c)
    #expect(c.array == [0, 0])
  }

  /// A `MatrixOperandBuffer` has separate memory for fp32 and bf16.
  @Test func keepsWhatWasWritten() {
    let buffer = MatrixOperandBuffer<Float>()
    let x = Tensor<Float>(Shape(2, 2), [1, 2.001, 3, 4])
    guard case .bf16(let rounded) = buffer.operand(x.shape, .bf16),
      case .fp32(let exact) = buffer.operand(x.shape, .fp32)
    else {
      Issue.record("not of the precision that was asked for")
      return
    }
    round(x, into: rounded)
    copy(x, into: exact)
    #expect(rounded.floats == [1, 2, 3, 4] && rounded.rows(1..<2).floats == [3, 4])
    #expect(exact.array == x.array)
  }

  @Test(arguments: [1, 2, 511, 512, 513, 1000, 1024, 6304, 65535, 1 << 20]) func pieces(rows: Int) {
    var end = 0
    var sizes: [Int] = []
    for piece in ProductPieces(rows) {
      #expect(piece.lowerBound == end && !piece.isEmpty)
      end = piece.upperBound
      sizes.append(piece.count)
    }
    #expect(end == rows)
    #expect(Array(ProductPieces(rows, whole: true)) == [0..<rows])
    // A piece is not cut again, so that benchmarks measure the product that is computed.
    for size in sizes { #expect(Array(ProductPieces(size)) == [0..<size]) }
    #expect(sizes.dropFirst(rows <= 512 ? 1 : 0).allSatisfy { $0.nonzeroBitCount == 1 })
  }

  /// Products that are cut into pieces, by rows of the result and by summands.
  @Test func longProducts() {
    let (rows, columns, inner) = (1157, 3, 2)
    let (x, y) = (Tensor<Float>.random(Shape(rows, inner), "x"), Tensor<Float>.random(Shape(rows, columns), "y"))
    let (left, right) = (BFloat16Buffer(), BFloat16Buffer())
    let (a, b): (MatrixOperand<Float>, MatrixOperand<Float>) = (left.operand(x, .bf16), right.operand(y, .bf16))
    let (p, q) = (rounded(x.array), rounded(y.array))
    let product = Tensor<Float>(Shape(inner, columns))
    fill(product, 1)
    let bias = Tensor<Float>(Shape(columns), [1, 2, 3])
    matmul(a, b, into: product, transposeA: true, bias: bias, accumulate: true)
    for i in 0..<inner {
      for j in 0..<columns {
        let terms = (0..<rows).map { Double(p[$0 * inner + i] * q[$0 * columns + j]) }
        let expected = 2 + Double(j) + terms.reduce(0, +)
        let bound = Float.roundoff * Double(rows) * (4 + terms.reduce(0) { $0 + abs($1) })
        #expect(abs(Double(product[i * columns + j]) - expected) <= bound)
      }
    }
    let weight = Tensor<Float>.random(Shape(columns, inner), "weight")
    let w: MatrixOperand<Float> = right.operand(weight, .bf16)
    let v = rounded(weight.array)
    guard case .bf16(let narrow) = MatrixOperandBuffer<Float>().operand(Shape(rows, columns), .bf16) else {
      Issue.record("not of the precision that was asked for")
      return
    }
    let exact = Tensor<Float>(Shape(rows, columns))
    matmul(a, w, into: exact, transposeB: true, bias: bias)
    matmul(a, w, into: .bf16(narrow), transposeB: true, bias: bias)
    for i in 0..<rows {
      for j in 0..<columns {
        let sum = bias[j] + p[i * inner] * v[j * inner] + p[i * inner + 1] * v[j * inner + 1]
        #expect(abs(exact[i * columns + j] - sum) <= 4 * Float.ulpOfOne * (3 + abs(sum)))
      }
    }
    #expect(narrow.floats == rounded(exact.array))
  }
}
