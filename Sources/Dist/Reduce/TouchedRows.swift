internal import Synchronization
internal import Tensor

/// Sums a matrix over the ranks of which each has touched few rows: only those travel, with their numbers, each to the
/// ranks that own something of it.
///
/// An owner adds what comes in the order of the ranks, so the sum is the dense one but for the order, and the same on
/// every run. Where the touched rows are no smaller than the matrix, it travels as any other bucket.
final class TouchedRows<S: Scalar>: @unchecked Sendable {
  private let width: Int
  /// What each rank owns, in numbers of the matrix.
  private let pieces: [Range<Int>]
  private let sent = Buffer<S>()
  private let received = Buffer<S>()
  /// How many rows the ranks have touched, and which, as they tell each other.
  private var given: [Int] = []
  private var taken: [Int] = []
  private let bytes = Mutex(0)

  init(width: Int, pieces: [Range<Int>]) {
    self.width = width
    self.pieces = pieces
  }

  /// Bytes that have come from other ranks in all sums so far, by the counting of `Traffic`.
  var receivedBytes: Int { bytes.withLock { $0 } }

  /// Puts the sum of this rank's piece into `own`. Every rank calls it, one sum at a time.
  ///
  /// - Parameters:
  ///   - matrix: what this rank adds, with the gap behind the rows.
  ///   - touched: by rising number, the rows outside of which `matrix` is 0.
  func reduce(_ matrix: Tensor<S>, touched: [Int], into own: Tensor<S>, over ranks: Communicator) throws {
    let before = ranks.ledger.received
    defer { bytes.withLock { $0 += ranks.ledger.received - before } }
    // All ranks hear of all how many rows they have, and so decide alike.
    let gives = pieces.map { rows(touched, in: $0) }
    given.removeAll(keepingCapacity: true)
    for rows in gives {
      given.append(touched.count)
      given += touched[rows]
    }
    let takes = try ranks.allToAll(&given, counts: gives.map { $0.count + 1 }, into: &taken)
    let stride = MemoryLayout<S>.stride
    let all = takes.reduce(0) { $0 + taken[$1.lowerBound] }
    guard all * (width * stride + MemoryLayout<Int>.stride) < matrix.count * stride * ranks.size else {
      return try ranks.reduceScatter(matrix, into: own, ranges: pieces)
    }

    let piece = pieces[ranks.rank]
    let lists = takes.map { taken[$0].dropFirst() }
    let outward = zip(gives, pieces).map { rows, piece in
      touched[rows].reduce(0) { $0 + part(of: $1, in: piece).count }
    }
    let inward = lists.map { rows in rows.reduce(0) { $0 + part(of: $1, in: piece).count } }
    let (out, into) = (room(outward, in: sent), room(inward, in: received))
    var filled = 0
    for (rows, piece) in zip(gives, pieces) {
      for row in touched[rows] {
        let part = part(of: row, in: piece)
        copy(matrix.slice(part), into: out.slice(filled..<filled + part.count))
        filled += part.count
      }
    }
    try ranks.allToAll(out, counts: outward, into: into, lengths: inward)
    fill(own, 0)
    filled = 0
    for row in lists.joined() {
      let part = part(of: row, in: piece)
      add(
        into.slice(filled..<filled + part.count),
        to: own.slice(part.lowerBound - piece.lowerBound..<part.upperBound - piece.lowerBound))
      filled += part.count
    }
  }

  /// Room for so many numbers in all, in a buffer that grows to powers of two: what the next steps touch has room too.
  private func room(_ counts: [Int], in buffer: Buffer<S>) -> Tensor<S> {
    let count = counts.reduce(0, +)
    var room = 1
    while room < count { room *= 2 }
    return buffer.tensor(Shape(room)).slice(0..<count)
  }

  /// The places among the touched rows of those of which something lies in a piece.
  private func rows(_ touched: [Int], in piece: Range<Int>) -> Range<Int> {
    guard !piece.isEmpty else { return 0..<0 }
    let (first, last) = (piece.lowerBound / width, (piece.upperBound - 1) / width)
    return Self.place(first, in: touched)..<Self.place(last + 1, in: touched)
  }

  /// What of a row lies in a piece.
  private func part(of row: Int, in piece: Range<Int>) -> Range<Int> {
    (row * width..<(row + 1) * width).clamped(to: piece)
  }

  /// How many of the rising numbers are less than `number`.
  private static func place(_ number: Int, in numbers: [Int]) -> Int {
    var (low, high) = (0, numbers.count)
    while low < high {
      let middle = (low + high) / 2
      if numbers[middle] < number { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
