/// Sequences end to end, without padding: rows `offsets[i] ..< offsets[i + 1]` of a matrix are sequence i.
public struct Sequences: Sendable, Equatable {
  /// The first row of each sequence, and the number of all rows.
  public private(set) var offsets: [Int] = []
  /// The first row of each sequence, and the last row of each.
  public private(set) var firsts: [Int] = []
  public private(set) var lasts: [Int] = []
  /// The length of the longest sequence.
  public private(set) var longest = 0

  public init(lengths: some Sequence<Int>) { become(lengths: lengths) }
  /// Creates `count` sequences of equal length.
  public init(count: Int, length: Int) { self.init(lengths: repeatElement(length, count: count)) }

  /// Replaces the sequences, in the same memory.
  public mutating func become(lengths: some Sequence<Int>) {
    removeAll()
    for length in lengths { append(length: length) }
  }

  /// Removes the sequences and keeps the memory.
  public mutating func removeAll() {
    offsets.removeAll(keepingCapacity: true)
    firsts.removeAll(keepingCapacity: true)
    lasts.removeAll(keepingCapacity: true)
    offsets.append(0)
    longest = 0
  }

  /// Adds a sequence behind all others.
  public mutating func append(length: Int) {
    precondition(length >= 0, "a sequence of length \(length)")
    let first = offsets[offsets.count - 1]
    firsts.append(first)
    lasts.append(first + length - 1)
    offsets.append(first + length)
    longest = max(longest, length)
  }

  /// The number of sequences.
  public var count: Int { offsets.count - 1 }
  /// The number of rows of all sequences.
  public var total: Int { offsets[count] }
  public subscript(index: Int) -> Range<Int> { offsets[index]..<offsets[index + 1] }
}

/// x[r, :] = table[ids[r], :] + positions[r − start of r's sequence, :], for n ids, x [n, w], a table
/// [vocabulary, w] and positions [context, w].
@specialized(where S == Float) @specialized(where S == Double)
public func embed<S: Scalar>(
  _ ids: [Int32], _ sequences: Sequences, table: Tensor<S>, positions: Tensor<S>, into x: Tensor<S>
) {
  let (w, t, s, q) = (table.columns, table.pointer, positions.pointer, x.pointer)
  precondition(
    ids.count == sequences.total && x.rows == ids.count && x.columns == w && positions.columns == w
      && sequences.longest <= positions.rows, "embedding of \(ids.count) tokens into \(x.shape)")
  precondition(ids.allSatisfy { $0 >= 0 && Int($0) < table.rows }, "a token outside the vocabulary of \(table.rows)")
  for sequence in 0..<sequences.count {
    let start = sequences.offsets[sequence]
    for r in sequences[sequence] {
      let (token, position, target) = (t + Int(ids[r]) * w, s + (r - start) * w, q + r * w)
      for j in 0..<w { target[j] = token[j] + position[j] }
    }
  }
}

/// Adds each row of dx to its token's row of dtable and to its position's row of dpositions.
@specialized(where S == Float) @specialized(where S == Double)
public func embedBackward<S: Scalar>(
  _ dx: Tensor<S>, _ ids: [Int32], _ sequences: Sequences, dtable: Tensor<S>, dpositions: Tensor<S>
) {
  let (w, p, t, s) = (dtable.columns, dx.pointer, dtable.pointer, dpositions.pointer)
  precondition(ids.count == sequences.total && dx.rows == ids.count && dx.columns == w, "gradient of \(dx.shape)")
  for sequence in 0..<sequences.count {
    let start = sequences.offsets[sequence]
    for r in sequences[sequence] {
      let (source, token, position) = (p + r * w, t + Int(ids[r]) * w, s + (r - start) * w)
      for j in 0..<w {
        token[j] += source[j]
        position[j] += source[j]
      }
    }
  }
}

/// y[i, :] = x[rows[i], :].
public func gatherRows<S: BitwiseCopyable>(_ x: Tensor<S>, _ rows: [Int], into y: Tensor<S>) {
  let w = x.columns
  precondition(y.rows == rows.count && y.columns == w && rows.allSatisfy { $0 >= 0 && $0 < x.rows })
  for (i, row) in rows.enumerated() { (y.pointer + i * w).update(from: x.pointer + row * w, count: w) }
}

/// y[i, :] = x[rows[i], :], both in the same precision.
public func gatherRows<S: Scalar>(_ x: MatrixOperand<S>, _ rows: [Int], into y: MatrixOperand<S>) {
  switch (x, y) {
  case (.fp32(let x), .fp32(let y)): gatherRows(x, rows, into: y)
  case (.bf16(let x), .bf16(let y)): gatherRows(x, rows, into: y)
  default: preconditionFailure("rows of \(x.shape) and \(y.shape) in different precisions")
  }
}

/// y[rows[i], :] ← y[rows[i], :] + x[i, :].
@specialized(where S == Float) @specialized(where S == Double)
public func addRows<S: Scalar>(_ x: Tensor<S>, _ rows: [Int], to y: Tensor<S>) {
  let (w, p, q) = (x.columns, x.pointer, y.pointer)
  precondition(x.rows == rows.count && y.columns == w && rows.allSatisfy { $0 >= 0 && $0 < y.rows })
  for (i, row) in rows.enumerated() { for j in 0..<w { q[row * w + j] += p[i * w + j] } }
}

/// y ← 0, then y[rows[i], :] ← x[i, :]: the gradient of `gatherRows` where no row is taken twice.
public func scatterRows<S: Scalar>(_ x: Tensor<S>, _ rows: [Int], into y: Tensor<S>) {
  let w = x.columns
  precondition(x.rows == rows.count && y.columns == w && rows.allSatisfy { $0 >= 0 && $0 < y.rows })
  fill(y, 0)
  for (i, row) in rows.enumerated() { (y.pointer + row * w).update(from: x.pointer + i * w, count: w) }
}
