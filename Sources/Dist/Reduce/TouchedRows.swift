internal import Synchronization
internal import Tensor

/// Sums a matrix over the ranks. Only the few touched rows are sent, unless the matrix has hardly more bytes. They take
/// the way of `NodeExchange`: each node's ranks are summed first, so that a row that several of them touch crosses the
/// network once. Without levels each rank counts as a node.
///
/// Sums have the order of `NodeExchange.reduceScatter`, and what an owner gets from its own node is not rounded either.
/// A row that a rank does not touch counts as 0, so the numbers are those of a reduction of the whole matrix.
///
/// All ranks take the same steps, also those without rows: the ranks of a node learn each other's marks; relays tell
/// the owners which of their rows the node touches, and how many it touches in all, by which all ranks make the same
/// choice between rows and matrix; then the rows themselves go from ranks to relays, and their sums to the owners.
final class TouchedRows<S: Scalar>: @unchecked Sendable {
  private typealias RowMarks = MatrixRows.RowMarks
  private let rows: MatrixRows
  private let transport: BucketTransport<S>
  private let (memberMarks, unionMarks) = (Buffer<Int>(), Buffer<Int>())
  private let (sentMarks, arrivedMarks) = (Buffer<Int>(), Buffer<Int>())
  private let (sent, received, summed, arrived) = (Buffer<S>(), Buffer<S>(), Buffer<S>(), Buffer<S>())
  private let (roundedSent, roundedArrived) = (Buffer<UInt16>(), Buffer<UInt16>())
  private let bytes = Mutex(0)

  /// The numbers travel along the transport's route, and as it says if the whole matrix is reduced.
  init(width: Int, pieces: [Range<Int>], _ transport: BucketTransport<S>) {
    (rows, self.transport) = (MatrixRows(width: width, pieces: pieces), transport)
  }

  /// The bytes received from other ranks in all sums so far, as `Traffic` counts them.
  var receivedBytes: Int { bytes.withLock { $0 } }

  private var exchange: NodeExchange<S> { transport.exchange }

  /// Stores this rank's piece of the sum in `own`. Rows of `matrix` that are not `touched` are 0.
  func reduce(_ matrix: Tensor<S>, touched: [Int], into own: Tensor<S>) throws {
    let before = exchange.receivedBytes
    defer {
      let received = exchange.receivedBytes - before
      bytes.withLock { $0 += received }
    }
    let members = try nodeMarks(touched)
    let union = RowMarks(words: unionMarks.tensor(Shape(rows.words)))
    union.set(unionOf: members)
    let (marks, count) = try ownersMarks(union)
    guard
      transport.route.sendsRows(
        touched: count, width: rows.width, of: matrix.count, ranks: exchange.ranks.size, S.self)
    else { return try transport.reduce(matrix, into: own, pieces: rows.pieces) }
    let sums = try nodeSums(matrix, members, union)
    try addSums(sums, union, marks, into: own)
  }

  // MARK: Marks

  /// Returns the rows that each rank of this node touches.
  private func nodeMarks(_ touched: [Int]) throws -> [RowMarks] {
    let blocks = exchange.lanes.map { _ in rows.words }.endToEnd
    let all = memberMarks.tensor(Shape(blocks.total))
    let marks = blocks.map { RowMarks(words: all.slice($0)) }
    marks[exchange.place].set(touched)
    if let node = exchange.node { try node.allGather(partsOf: all, ranges: blocks) }
    return marks
  }

  /// Tells owners which of their rows this node touches. Returns what the relays of this rank's own rows tell, and the
  /// sum over the nodes of the numbers of touched rows.
  private func ownersMarks(_ union: RowMarks) throws -> (marks: [RowMarks], count: Int) {
    let (lane, relays, words) = (exchange.lane, exchange.relays, rows.words(of: exchange.ranks.rank))
    let outward = exchange.blocks(lane, lane.map { 1 + rows.words(of: $0).count })
    let inward = exchange.blocks(relays, relays.map { _ in 1 + words.count })
    let (out, into) = (sentMarks.tensor(Shape(outward.total)), arrivedMarks.tensor(Shape(inward.total)))
    let count = union.count
    for owner in lane {
      out[outward[owner].lowerBound] = count
      copyBits(union.words.slice(rows.words(of: owner)), into: out.slice(outward[owner].dropFirst()))
    }
    try exchange.ranks.allToAll(out, outward, into: into, inward, in: exchange.order)
    let marks = relays.map { RowMarks(words: into.slice(inward[$0].dropFirst()), first: words.lowerBound) }
    return (marks, relays.reduce(0) { $0 + into[inward[$1].lowerBound] })
  }

  // MARK: Rows

  /// Returns this node's sums of the touched rows that pass through this rank, by owner and then by row.
  private func nodeSums(_ matrix: Tensor<S>, _ members: [RowMarks], _ union: RowMarks) throws -> Tensor<S> {
    let touched = members[exchange.place]
    let counts = exchange.lanes.map { rows.numbers(of: $0, in: touched) }
    let out = room(counts.reduce(0, +), in: sent)
    var filled = 0
    for owner in exchange.lanes.joined() {
      rows.forEachPart(of: owner, in: touched) { _, part in
        copy(matrix.slice(part), into: out.slice(filled..<filled + part.count))
        filled += part.count
      }
    }
    guard let node = exchange.node else { return out }
    let lane = exchange.lane
    let lengths = members.map { rows.numbers(of: lane, in: $0) }
    let all = room(lengths.reduce(0, +), in: received)
    try node.allToAll(out, counts: counts, into: all, lengths: lengths)
    let sums = room(rows.numbers(of: lane, in: union), in: summed)
    fill(sums, 0)
    var taken = 0
    for member in members {
      var place = 0
      for owner in lane {
        rows.forEachPart(of: owner, in: union) { row, part in
          if member.contains(row) {
            add(all.slice(taken..<taken + part.count), to: sums.slice(place..<place + part.count))
            taken += part.count
          }
          place += part.count
        }
      }
    }
    return sums
  }

  /// Sends this node's sums to the owners, and adds those of all nodes that come from the relays of this rank's rows.
  private func addSums(
    _ sums: Tensor<S>, _ union: RowMarks, _ marks: [RowMarks], into own: Tensor<S>
  ) throws {
    let (ranks, lane, relays) = (exchange.ranks, exchange.lane, exchange.relays)
    let outward = exchange.blocks(lane, lane.map { rows.numbers(of: [$0], in: union) })
    let inward = exchange.blocks(relays, marks.map { rows.numbers(of: [ranks.rank], in: $0) })
    let exact = room(transport.route.wire == .fp32 ? inward.total : 0, in: arrived)
    var rounded: Tensor<UInt16>?
    switch transport.route.wire {
    case .fp32: try ranks.allToAll(sums, outward, into: exact, inward, in: exchange.order)
    case .bf16:
      let (less, arrived) = (room(outward.total, in: roundedSent), room(inward.total, in: roundedArrived))
      round(sums, into: less)
      try ranks.allToAll(less, outward, into: arrived, inward, in: exchange.order)
      rounded = arrived
    }
    fill(own, 0)
    let start = rows.pieces[ranks.rank].lowerBound
    for (relay, marks) in zip(relays, marks) {
      // What this node has summed itself is never rounded.
      let isOwn = relay == ranks.rank
      var taken = (isOwn ? outward : inward)[relay].lowerBound
      rows.forEachPart(of: ranks.rank, in: marks) { _, part in
        let (place, sum) = (taken..<taken + part.count, own.slice(part.moved(by: -start)))
        if isOwn {
          add(sums.slice(place), to: sum)
        } else if let rounded {
          add(rounded.slice(place), to: sum)
        } else {
          add(exact.slice(place), to: sum)
        }
        taken += part.count
      }
    }
  }

  /// Returns memory for so many elements. The buffer grows in powers of two, so that later steps rarely allocate.
  private func room<Element: BitwiseCopyable>(_ count: Int, in buffer: Buffer<Element>) -> Tensor<Element> {
    var room = 1
    while room < count { room *= 2 }
    return buffer.tensor(Shape(room)).slice(0..<count)
  }
}
