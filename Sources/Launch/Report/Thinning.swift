/// The points of a curve that can be seen on a screen: in each column of pixels the first, the lowest, the highest and
/// the last point. No spike is lost, and a log of a million lines draws at most a few thousand points.
struct Thinning {
  struct Point: Equatable {
    var x: Double
    var y: Double
  }

  /// The curve in pieces, interrupted wherever it has no finite value.
  private(set) var pieces: [[Point]] = []
  /// The positions of values that are not finite, at most one per column.
  private(set) var notFinite: [Double] = []

  /// - Parameters:
  ///   - columns: the number of columns of pixels.
  ///   - x: returns the position of a step, 0 to 1.
  ///   - y: returns the position of a finite value.
  init(_ curve: Curve, columns: Int, x: (Int) -> Double, y: (Double) -> Double) {
    var piece: [Point] = []
    var column = Column()
    var number = -1
    func flush(_ column: Column, _ piece: inout [Point], _ pieces: inout [[Point]]) {
      piece += column.points
      guard column.isBroken, !piece.isEmpty else { return }
      pieces.append(piece)
      piece = []
    }
    for line in curve.steps.indices {
      let x = x(curve.steps[line])
      let own = min(Int(x * Double(columns)), columns - 1)
      if own != number {
        flush(column, &piece, &pieces)
        column = Column()
        number = own
      }
      guard let value = curve.values[line] else {
        column.isBroken = true
        continue
      }
      if value.isFinite {
        column.add(Point(x: x, y: y(value)))
      } else {
        column.isBroken = true
        if notFinite.last.map({ min(Int($0 * Double(columns)), columns - 1) != own }) ?? true { notFinite.append(x) }
      }
    }
    flush(column, &piece, &pieces)
    if !piece.isEmpty { pieces.append(piece) }
  }

  /// The points of a column of pixels.
  private struct Column {
    private var first: Point?
    private var lowest: Point?
    private var highest: Point?
    private var last: Point?
    /// True if some line in the column has no finite value.
    var isBroken = false

    mutating func add(_ point: Point) {
      first = first ?? point
      if lowest.map({ point.y < $0.y }) ?? true { lowest = point }
      if highest.map({ point.y > $0.y }) ?? true { highest = point }
      last = point
    }

    /// The kept points in their order along the curve, each once.
    var points: [Point] {
      guard let first, let lowest, let highest, let last else { return [] }
      var points = [first]
      for point in lowest.x <= highest.x ? [lowest, highest, last] : [highest, lowest, last] where point != points.last
      {
        points.append(point)
      }
      return points
    }
  }
}

extension Curve {
  /// The mean of each value and its neighbours, a fiftieth of the curve on either side, over the finite values. Nil if
  /// the curve has fewer than fifty steps, too few for a trend.
  var smoothed: Curve? {
    guard steps.count >= 50 else { return nil }
    let reach = steps.count / 50
    let width = 2 * reach + 1
    // Sums that begin or end at the bounds of blocks as wide as a window, so that each window is the sum of two of
    // them. Differences of running sums would be simpler, but would lose all digits of the values after a spike.
    var toHere = [(sum: Double, count: Int)](repeating: (0, 0), count: steps.count)
    var fromHere = toHere
    func scaled(_ line: Int) -> (sum: Double, count: Int) {
      values[line].map { $0.isFinite ? ($0 / Double(width), 1) : (0, 0) } ?? (0, 0)
    }
    for line in steps.indices {
      let (own, before) = (scaled(line), line % width == 0 ? (0, 0) : toHere[line - 1])
      toHere[line] = (before.0 + own.sum, before.1 + own.count)
    }
    for line in steps.indices.reversed() {
      let isLast = line % width == width - 1 || line == steps.count - 1
      let (own, after) = (scaled(line), isLast ? (0, 0) : fromHere[line + 1])
      fromHere[line] = (after.0 + own.sum, after.1 + own.count)
    }
    var means = Column()
    for line in steps.indices where values[line]?.isFinite == true {
      let (low, high) = (max(0, line - reach), min(steps.count - 1, line + reach))
      let (left, right) = (fromHere[low], toHere[high])
      let whole =
        if low % width == 0 { right } else if low / width == high / width { left } else {
          (sum: left.sum + right.sum, count: left.count + right.count)
        }
      means.append(whole.sum / Double(whole.count) * Double(width), at: line)
    }
    return Curve(steps: steps, values: means)
  }
}
