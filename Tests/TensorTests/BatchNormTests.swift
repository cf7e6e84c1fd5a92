import Tensor
import TestSupport
import Testing

@Suite struct BatchNormTests {
  static let shapes = [
    Shape(1, 1), Shape(1, 5), Shape(7, 1), Shape(13, 3), Shape(300, 17), Shape(5000, 64), Shape(70, 1031),
    Shape(900, 150),
  ]

  /// Means and sums of squares of columns, beside two passes in Double; far from zero too.
  @Test(arguments: shapes, [0.0, 1000]) func momentsInSinglePrecision(shape: Shape, offset: Double) {
    moments(Float.self, shape, offset: offset)
  }
  @Test(arguments: shapes, [0.0, 1000]) func momentsInDouble(shape: Shape, offset: Double) {
    moments(Double.self, shape, offset: offset)
  }

  private func moments<S: Scalar>(_: S.Type, _ shape: Shape, offset: Double) {
    let (n, c) = (shape[0], shape[1])
    let x = Tensor<S>.random(shape, "x", bound: 3)
    for index in 0..<x.count { x[index] += S(offset) }
    let (mean, squares) = (Tensor<Double>(Shape(c)), Tensor<Double>(Shape(c)))
    columnMoments(.fp32(x), mean: mean, squares: squares)
    let p = x.doubles
    for j in 0..<c {
      let column = stride(from: j, to: n * c, by: c).map { p[$0] }
      let mu = column.reduce(0, +) / Double(n)
      let square = column.reduce(0) { $0 + ($1 - mu) * ($1 - mu) }
      // Distances from a block's mean err by the rounding of one subtraction each; sums of them by their number.
      let tolerance = S.roundoff * 8 * (3 + Double(n).squareRoot() / 100)
      #expect(abs(mean[j] - mu) <= tolerance + 1e-13 * offset, "mean of column \(j)")
      #expect(abs(squares[j] - square) <= tolerance * (square + S.roundoff) * 4 + 1e-11, "squares of column \(j)")
    }
  }

  @Test func momentsOfNothing() {
    let (mean, squares) = (Tensor<Double>(Shape(2), [7, 7]), Tensor<Double>(Shape(2), [7, 7]))
    columnMoments(.fp32(Tensor<Float>(Shape(0, 2))), mean: mean, squares: squares)
    #expect(mean.array == [0, 0] && squares.array == [0, 0])
  }

  @Test func notANumberIsNotSwallowed() {
    let z = Tensor<Float>(Shape(3, 2), [1, 2, .nan, 3, 4, 5])
    let (mean, squares) = (Tensor<Double>(Shape(2)), Tensor<Double>(Shape(2)))
    columnMoments(.fp32(z), mean: mean, squares: squares)
    #expect(mean[0].isNaN && squares[0].isNaN && mean[1].isFinite && squares[1].isFinite)
    let (zeros, ones) = (Tensor<Float>(Shape(2)), Tensor<Float>(Shape(2), [1, 1]))
    batchNorm(.fp32(z), BatchNormVectors(mean: zeros, scale: ones, bias: zeros), relu: true, into: .fp32(z))
    #expect(z[2].isNaN && z[3] == 3)
  }

  enum Form: String, CaseIterable { case plain, relu, residual, reluOfResidual }

  @Test(arguments: Form.allCases) func values(form: Form) {
    let (n, c) = (11, 7)
    let (z, residual) = (Tensor<Double>.random(Shape(n, c), "z"), Tensor<Double>.random(Shape(n, c), "residual"))
    let columns = ["mean", "scale", "bias"].map { Tensor<Double>.random(Shape(c), $0) }
    let y = Tensor<Double>(z.shape)
    let (added, relu) = (form == .residual || form == .reluOfResidual, form == .relu || form == .reluOfResidual)
    batchNorm(
      .fp32(z), BatchNormVectors(mean: columns[0], scale: columns[1], bias: columns[2]),
      adding: added ? .fp32(residual) : nil, relu: relu, into: .fp32(y))
    for index in 0..<n * c {
      let j = index % c
      let value = (z[index] - columns[0][j]) * columns[1][j] + columns[2][j] + (added ? residual[index] : 0)
      #expect(abs(y[index] - (relu ? max(value, 0) : value)) <= 8 * Double.roundoff)
    }
  }

  /// Many rows, so that blocks are joined and threads would share them; against plain sums.
  @Test(arguments: [Shape(3, 2), Shape(1001, 3), Shape(130, 1031)]) func backwardSums(shape: Shape) {
    let (n, c) = (shape[0], shape[1])
    let (z, dy, y) = (
      Tensor<Float>.random(shape, "z"), Tensor<Float>.random(shape, "dy"), Tensor<Float>.random(shape, "y")
    )
    let columns = ["mean", "scale", "bias"].map { Tensor<Float>.random(Shape(c), $0) }
    for mask in [BatchNormMask.none, .recomputed, .output(.fp32(y))] {
      let gradient = Tensor<Float>(shape, dy.array)
      let (sum, along) = (Tensor<Double>(Shape(c)), Tensor<Double>(Shape(c)))
      batchNormBackwardSums(
        .fp32(gradient), z: .fp32(z), mask: mask,
        BatchNormVectors(mean: columns[0], scale: columns[1], bias: columns[2]), sum: sum, along: along)
      var (sums, alongs) = ([Double](repeating: 0, count: c), [Double](repeating: 0, count: c))
      for index in 0..<n * c {
        let j = index % c
        let before = Double(columns[2][j].addingProduct(z[index] - columns[0][j], columns[1][j]))
        let passes: Bool =
          switch mask {
          case .none: true
          case .recomputed: before > 0
          case .output: y[index] > 0
          }
        let h = passes ? Double(dy[index]) : 0
        sums[j] += h
        alongs[j] += h * Double(z[index] - columns[0][j])
        if case .output = mask { #expect(Double(gradient[index]) == h) } else { #expect(gradient[index] == dy[index]) }
      }
      // Sums of a block's rows are held in Float.
      let tolerance = Float.roundoff * 4 * Double(n)
      #expect(Deviation(sum.array, from: sums).absolute <= tolerance)
      #expect(Deviation(along.array, from: alongs).absolute <= tolerance * 2)
    }
  }
}
