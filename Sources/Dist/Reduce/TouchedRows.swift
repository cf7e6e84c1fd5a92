internal import Synchronization
internal import Tensor

/// Sums a matrix over the ranks of which each has touched few rows: only those travel, with their numbers, each to the ranks
/// that own something of it.
///
/// An owner adds what comes in the order of the ranks, so the sum is the dense one but for the order, and the same on every
/// run. Where the touched rows are no smaller than the matrix, it travels as any other bucket.
final class TouchedRows<S: Scalar>: @unchecked Sendable {
  private let width: Int
  /// What each rank owns, in numbers of the matrix.
  private let pieces: [Range<Int>]
  private let sent = Buffer<S>()
  private let received = Buffer<S>()
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
    let wanted = try ranks.exchange(pieces.map { [touched.count] + rows(touched, in: $0) })
    let stride = MemoryLayout<S>.stride
    let total = wanted.reduce(0) { $0 + $1[0] } * (width * stride + MemoryLayout<Int>.stride)
    guard total < matrix.count * stride * ranks.size else {
      return try ranks.reduceScatter(matrix, into: own, ranges: pieces)
    }

    let gives = pieces.map { parts(rows(touched, in: $0), of: $0) }
    let takes = wanted.map { parts(Array($0.dropFirst()), of: pieces[ranks.rank]) }
    func counts(_ parts: [[Range<Int>]]) -> [Int] { parts.map { $0.reduce(0) { $0 + $1.count } } }
    let out = sent.tensor(Shape(counts(gives).reduce(0, +)))
    let into = received.tensor(Shape(counts(takes).reduce(0, +)))
    var filled = 0
    for part in gives.joined() {
      copy(matrix.slice(part), into: out.slice(filled..<filled + part.count))
      filled += part.count
    }
    try ranks.exchange(out, counts(gives), into: into, counts(takes))
    fill(own, 0)
    filled = 0
    let start = pieces[ranks.rank].lowerBound
    for part in takes.joined() {
      add(
        into.slice(filled..<filled + part.count), to: own.slice(part.lowerBound - start..<part.upperBound - start))
      filled += part.count
    }
  }

  /// Those of the touched rows of which something lies in a piece.
  private func rows(_ touched: [Int], in piece: Range<Int>) -> [Int] {
    guard !piece.isEmpty else { return [] }
    let (first, last) = (piece.lowerBound / width, (piece.upperBound - 1) / width)
    return Array(touched[Self.place(first, in: touched)..<Self.place(last + 1, in: touched)])
  }

  /// What of each row lies in a piece.
  private func parts(_ rows: [Int], of piece: Range<Int>) -> [Range<Int>] {
    rows.map { ($0 * width..<($0 + 1) * width).clamped(to: piece) }
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
