import Tensor
import TestSupport
import Testing

/// Kernels that move rows: embedding, gathering, scattering, cutting into patches.
@Suite struct EmbeddingTests {
  private static let ids: [Int32] = [3, 0, 3, 3, 4, 1]
  private static let sequences = Sequences(lengths: [2, 0, 3, 1])

  @Test func sequencesLieEndToEnd() {
    let sequences = Self.sequences
    #expect(sequences.offsets == [0, 2, 2, 5, 6] && sequences.longest == 3)
    #expect(sequences.count == 4 && sequences.total == 6 && sequences[2] == 2..<5)
    #expect(Sequences(count: 2, length: 3).offsets == [0, 3, 6])
    #expect(Sequences(lengths: []).count == 0 && Sequences(lengths: []).total == 0)
  }

  @Test func embedding() {
    let (table, positions) = (
      Tensor<Float>.random(Shape(5, 3), "table"), Tensor<Float>.random(Shape(4, 3), "positions")
    )
    let x = Tensor<Float>(Shape(6, 3))
    embed(Self.ids, Self.sequences, table: table, positions: positions, into: x)
    for (row, place) in [0, 1, 0, 1, 2, 0].enumerated() {
      for j in 0..<3 { #expect(x[row * 3 + j] == table[Int(Self.ids[row]) * 3 + j] + positions[place * 3 + j]) }
    }
  }

  @Test func embeddingGradients() {
    let (table, positions) = (
      Tensor<Double>.random(Shape(5, 3), "table"), Tensor<Double>.random(Shape(4, 3), "positions")
    )
    let (dtable, dpositions) = (Tensor<Double>(table.shape), Tensor<Double>(positions.shape))
    let report = GradientCheck([
      .init("table", table, gradient: dtable), .init("positions", positions, gradient: dpositions),
    ]).run {
      let x = Tensor<Double>(Shape(6, 3))
      embed(Self.ids, Self.sequences, table: table, positions: positions, into: x)
      return x.array
    } backward: { weights in
      embedBackward(Tensor(Shape(6, 3), weights), Self.ids, Self.sequences, dtable: dtable, dpositions: dpositions)
    }
    #expect(report.passed, "\(report)")
  }

  @Test func rowsAreGatheredAndScattered() {
    let x = Tensor<Double>(Shape(4, 2), [1, 2, 3, 4, 5, 6, 7, 8])
    let y = Tensor<Double>(Shape(3, 2))
    gatherRows(x, [2, 0, 2], into: y)
    #expect(y.array == [5, 6, 1, 2, 5, 6])
    let z = Tensor<Double>(Shape(4, 2), [Double](repeating: .nan, count: 8))
    scatterRows(Tensor(Shape(2, 2), [1, 2, 3, 4]), [3, 1], into: z)
    #expect(z.array == [0, 0, 3, 4, 0, 0, 1, 2])
    addRows(Tensor(Shape(2, 2), [1, 2, 3, 4]), [1, 1], to: z)
    #expect(z.array == [0, 0, 7, 10, 0, 0, 1, 2])

    let (whole, few) = (MatrixOperandBuffer<Double>().operand(x.shape, .bf16), BFloat16Matrix(Shape(2, 2)))
    copy(x, into: whole)
    gatherRows(whole, [3, 1], into: .bf16(few))
    #expect(few.floats == [7, 8, 3, 4])
  }

  @Test(arguments: [(1, 3, 4, 4, 2), (2, 3, 7, 5, 2), (1, 1, 3, 3, 3), (3, 2, 5, 11, 1)])
  func cutsIntoPatches(b: Int, c: Int, height: Int, width: Int, p: Int) {
    let images = Tensor<Float>.random(Shape(b, c, height, width), "images")
    let (down, across) = (height / p, width / p)
    let rows = Tensor<Float>(Shape(b * down * across, c * p * p))
    patches(of: images, size: p, into: .fp32(rows))
    var at = 0
    for image in 0..<b {
      for row in 0..<down {
        for column in 0..<across {
          for channel in 0..<c {
            for y in 0..<p {
              for x in 0..<p {
                let source = ((image * c + channel) * height + row * p + y) * width + column * p + x
                #expect(rows[at] == images[source])
                at += 1
              }
            }
          }
        }
      }
    }
    #expect(at == rows.count)

    // With tokens, some of these rows alone.
    let chosen = (0..<b).map { [$0 % (down * across), down * across - 1] }
    let (some, expected) = (Tensor<Float>(Shape(2 * b, rows.columns)), Tensor<Float>(Shape(2 * b, rows.columns)))
    patches(of: images, size: p, tokens: chosen.flatMap { [0] + $0.map { $0 + 1 } }, into: .fp32(some))
    let places = chosen.enumerated().flatMap { image, places in places.map { image * down * across + $0 } }
    gatherRows(rows, places, into: expected)
    #expect(some.array == expected.array)
  }
}
