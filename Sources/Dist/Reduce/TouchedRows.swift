internal import Synchronization
internal import Tensor

/// Sums a matrix over the ranks. Only the few touched rows are sent, unless the matrix has fewer bytes. The owner of a
/// part adds them in the order of the ranks, so the sum is the same on every run.
final class TouchedRows<S: Scalar>: @unchecked Sendable {
  private let width: Int
  private let pieces: [Range<Int>]
  private let transport: BucketTransport<S>
  private let (sent, received) = (Buffer<S>(), Buffer<S>())
  private let (roundedSent, roundedReceived) = (Buffer<UInt16>(), Buffer<UInt16>())
  /// The messages to and from each rank: the number of touched rows, and the indices of those that the receiver shares.
  private var given: [Int] = []
  private var taken: [Int] = []
  private let bytes = Mutex(0)
  /// The numbers travel in the form of the transport's route, and as it says if the whole matrix is reduced.
  init(width: Int, pieces: [Range<Int>], _ transport: BucketTransport<S>) {
    (self.width, self.pieces, self.transport) = (width, pieces, transport)
  }
  /// The bytes received from other ranks in all sums so far, as `Traffic` counts them.
  var receivedBytes: Int { bytes.withLock { $0 } }

  /// Stores this rank's piece of the sum in `own`. Rows of `matrix` that are not `touched`, in rising order, are 0.
  func reduce(_ matrix: Tensor<S>, touched: [Int], into own: Tensor<S>, over ranks: Communicator) throws {
    let before = ranks.ledger.received
    let route = transport.route
    // Every rank learns the counts of all ranks, so all make the same decision.
    let gives = pieces.map { rows(touched, in: $0) }
    given.removeAll(keepingCapacity: true)
    for rows in gives {
      given.append(touched.count)
      given += touched[rows]
    }
    let takes = try ranks.allToAll(&given, counts: gives.map { $0.count + 1 }, into: &taken)
    let all = takes.reduce(0) { $0 + taken[$1.lowerBound] }
    guard route.sendsRows(touched: all, width: width, of: matrix.count, ranks: ranks.size, S.self) else {
      let lists = ranks.ledger.received - before
      let bucket = Bucket(range: 0..<matrix.count, pieces: pieces)
      let traffic = Traffic(rank: ranks.rank, size: ranks.size)
      bytes.withLock { $0 += lists + route.reductionBytes(bucket, traffic, S.self) }
      return try transport.reduce(matrix, into: own, pieces: pieces)
    }
    defer { bytes.withLock { $0 += ranks.ledger.received - before } }
    let piece = pieces[ranks.rank]
    let lists = takes.map { taken[$0].dropFirst() }
    let outward = zip(gives, pieces).map { rows, piece in
      touched[rows].reduce(0) { $0 + part(of: $1, in: piece).count }
    }
    let inward = lists.map { rows in rows.reduce(0) { $0 + part(of: $1, in: piece).count } }
    let (out, into) = (room(outward, in: sent), room(route.wire == .fp32 ? inward : [], in: received))
    var filled = 0
    for (rows, piece) in zip(gives, pieces) {
      for row in touched[rows] {
        let part = part(of: row, in: piece)
        copy(matrix.slice(part), into: out.slice(filled..<filled + part.count))
        filled += part.count
      }
    }
    var rounded: Tensor<UInt16>?
    switch route.wire {
    case .fp32: try ranks.allToAll(out, counts: outward, into: into, lengths: inward)
    case .bf16:
      let (less, arrived) = (room(outward, in: roundedSent), room(inward, in: roundedReceived))
      round(out, into: less)
      try ranks.allToAll(less, counts: outward, into: arrived, lengths: inward)
      rounded = arrived
    }
    fill(own, 0)
    filled = 0
    for (rank, rows) in lists.enumerated() {
      for row in rows {
        let part = part(of: row, in: piece)
        let (place, sum) = (filled..<filled + part.count, own.slice(part.moved(by: -piece.lowerBound)))
        // What a rank has itself is never rounded.
        if rank == ranks.rank {
          add(matrix.slice(part), to: sum)
        } else if let rounded {
          add(rounded.slice(place), to: sum)
        } else {
          add(into.slice(place), to: sum)
        }
        filled += part.count
      }
    }
  }

  /// Returns memory for the sum of the counts. The buffer grows in powers of two, so that later steps rarely allocate.
  private func room<Element: BitwiseCopyable>(_ counts: [Int], in buffer: Buffer<Element>) -> Tensor<Element> {
    let count = counts.reduce(0, +)
    var room = 1
    while room < count { room *= 2 }
    return buffer.tensor(Shape(room)).slice(0..<count)
  }

  /// Returns the indices into `touched` of the rows that overlap a piece.
  private func rows(_ touched: [Int], in piece: Range<Int>) -> Range<Int> {
    guard !piece.isEmpty else { return 0..<0 }
    // The number of touched rows before `row`.
    func place(_ row: Int) -> Int { (-1..<touched.count).last(holding: { $0 < 0 || touched[$0] < row }) + 1 }
    return place(piece.lowerBound / width)..<place((piece.upperBound - 1) / width + 1)
  }

  private func part(of row: Int, in piece: Range<Int>) -> Range<Int> {
    (row * width..<(row + 1) * width).clamped(to: piece)
  }
}
