public import Tensor

/// Similarities of the local rows with all rows, tile by tile: a rank never holds more of the N × N matrix than two
/// tiles (four with several teachers).
///
/// A first pass folds over tiles whatever a term needs of whole rows (log-sum-exps, divergences); the second computes
/// each tile again and turns it into gradients.
public final class Tiles<S: Scalar> {
  /// The sizes of a tile, such that two tiles stay in a core's cache.
  public let rows: Int
  public let columns: Int
  /// Memory for the targets of several teachers: those of the anchors in a tile's rows, and of those in its columns.
  let targets = (rows: Buffer<S>(), columns: Buffer<S>())
  private let student = Buffer<S>()
  private let teacher = Buffer<S>()
  private let sums = Buffer<S>()

  public init(rows: Int = 256, columns: Int = 1024) {
    precondition(rows > 0 && columns > 0)
    (self.rows, self.columns) = (rows, columns)
  }

  /// Calls `body` with the rows and columns of every tile. Columns are the outer loop, because their panel is larger.
  func forEach(_ own: Int, _ all: Int, _ body: (Range<Int>, Range<Int>) -> Void) {
    for column in stride(from: 0, to: all, by: columns) {
      for row in stride(from: 0, to: own, by: rows) {
        body(row..<min(row + rows, own), column..<min(column + columns, all))
      }
    }
  }

  /// Returns a tile of products a_i · b_j, in memory that the next call reuses.
  func products(_ a: Tensor<S>, _ b: Tensor<S>) -> Tensor<S> { products(a, b, student) }
  /// Returns a tile of products of the teacher's rows, in memory of its own.
  func teacherProducts(_ a: Tensor<S>, _ b: Tensor<S>) -> Tensor<S> { products(a, b, teacher) }

  private func products(_ a: Tensor<S>, _ b: Tensor<S>, _ memory: Buffer<S>) -> Tensor<S> {
    let tile = memory.tensor(Shape(a.rows, b.rows))
    matmul(a, b, into: tile, transposeB: true)
    return tile
  }

  /// Calls `body` with every pair of a local row and a global row, by their places, and with the products of the
  /// student's rows and of the teacher's.
  func forEachPair(
    _ student: UnitRows<S>, _ teacher: UnitRows<S>,
    _ body: (_ row: Int, _ column: Int, _ student: S, _ teacher: S) -> Void
  ) {
    forEach(student.own.rows, student.all.rows) { own, columns in
      let products = products(student.own.rows(own), student.all.rows(columns))
      let targets = teacherProducts(teacher.own.rows(own), teacher.all.rows(columns))
      for index in 0..<products.count {
        let (row, column) = index.quotientAndRemainder(dividingBy: columns.count)
        body(own.lowerBound + row, columns.lowerBound + column, products[index], targets[index])
      }
    }
  }

  /// Sets lse_i to ln Σ_j e^(scale a_i·b_j). With `leavingOut`, the global place of the first local row, each row
  /// leaves itself out of its sum.
  func normalizers(
    _ own: Tensor<S>, _ all: Tensor<S>, scale: S, into lse: Tensor<S>, leavingOut first: Int? = nil
  ) {
    let sum = sums.tensor(lse.shape)
    fill(lse, -S.infinity)
    fill(sum, 0)
    forEach(own.rows, all.rows) { rows, columns in
      foldLogSumExp(
        products(own.rows(rows), all.rows(columns)), scale: scale, maximum: lse.slice(rows), sum: sum.slice(rows),
        leavingOut: first.map { $0 + rows.lowerBound - columns.lowerBound })
    }
    finishLogSumExp(maximum: lse, sum: sum)
  }

  /// Adds scale · G B to `gradient`. For every tile `kernel` replaces the products A Bᵀ by G, and adds
  /// Σ_j G_ij ⟨a_i, b_j⟩ to its last argument [rows]. Returns the sum of these, which is the gradient of the scale.
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
