public import Tensor

/// Own rows against everybody's, tile by tile: of an N × N matrix no rank ever holds more than two tiles (four with
/// several teachers).
///
/// What a term needs of a whole row (log-sum-exps, divergences) is folded over tiles in a first pass; the second
/// computes each tile again and turns it into gradients.
public final class Tiles<S: Scalar> {
  /// Rows and columns of a tile: two of them stay in a core's cache.
  public let rows: Int
  public let columns: Int
  private let student = Buffer<S>()
  private let teacher = Buffer<S>()
  private let sums = Buffer<S>()
  private let mixed = (Buffer<S>(), Buffer<S>())

  public init(rows: Int = 256, columns: Int = 1024) {
    precondition(rows > 0 && columns > 0)
    self.rows = rows
    self.columns = columns
  }

  /// Calls `body` with the rows and columns of every tile. Columns are the outer loop, for their panel is the larger.
  func forEach(_ own: Int, _ all: Int, _ body: (Range<Int>, Range<Int>) -> Void) {
    for column in stride(from: 0, to: all, by: columns) {
      for row in stride(from: 0, to: own, by: rows) {
        body(row..<min(row + rows, own), column..<min(column + columns, all))
      }
    }
  }

  /// A tile of products a_i · b_j, in memory that the next call uses again.
  func products(_ a: Tensor<S>, _ b: Tensor<S>) -> Tensor<S> { products(a, b, student) }

  /// A second tile of products, of the teacher's rows.
  func teacherProducts(_ a: Tensor<S>, _ b: Tensor<S>) -> Tensor<S> { products(a, b, teacher) }

  /// Tiles beside the two of products, for targets of several teachers.
  func targets(_ shape: Shape) -> Tensor<S> { mixed.0.tensor(shape) }
  func oppositeTargets(_ shape: Shape) -> Tensor<S> { mixed.1.tensor(shape) }

  private func products(_ a: Tensor<S>, _ b: Tensor<S>, _ memory: Buffer<S>) -> Tensor<S> {
    let tile = memory.tensor(Shape(a.rows, b.rows))
    matmul(a, b, into: tile, transposeB: true)
    return tile
  }

  /// Adds scale · G B to `gradient`, where `kernel` turns a tile of products A Bᵀ into G and adds Σ_j G_ij ⟨a_i, b_j⟩
  /// to its last argument; returns the sum of that, the gradient of the scale.
  func gradient(
    _ own: Tensor<S>, _ all: Tensor<S>, scale: S, into gradient: Tensor<S>,
    _ kernel: (_ tile: Tensor<S>, _ rows: Range<Int>, _ columns: Range<Int>, _ along: Tensor<S>) -> Void
  ) -> Double {
    let along = sums.tensor(Shape(own.rows))
    fill(along, 0)
    forEach(own.rows, all.rows) { rows, columns in
      let tile = products(own.rows(rows), all.rows(columns))
      kernel(tile, rows, columns, along.slice(rows))
      matmul(tile, all.rows(columns), into: gradient.rows(rows), alpha: scale, beta: 1)
    }
    return sum(along)
  }
}
