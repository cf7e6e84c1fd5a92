internal import RealModule

// n rows of b sequences together, one of each of which has a query; w = heads · d columns.

/// o_i = softmax(q_i Kᵀ / √d) V for every head of one row of each sequence: what `attention` computes for these rows.
///
/// Row i of q and o [b, w] is the row `rows[i]` of all, which belongs to sequence i; kv [n, 2w] has the rows [K | V].
/// Backward needs `logSumExp` [heads, b]. Sums over columns and rows are loops and not products, because a product with
/// one row gains nothing, and oneDNN would generate code for every length. No probability is rounded.
@specialized(where S == Float) @specialized(where S == Double)
public func rowAttention<S: Scalar>(
  _ q: MatrixOperand<S>, kv: MatrixOperand<S>, _ pattern: AttentionPattern, rows: [Int], into o: MatrixOperand<S>,
  logSumExp: Tensor<S>, tiles: AttentionTiles<S>
) {
  precondition(q.shape.count == o.shape.count, "attention of \(q.shape) into \(o.shape)")
  let units = RowAttentionUnits(pattern, rows, o.shape, kv: kv.shape, logSumExp, tiles, each: 1)
  Profile.measure(\.attention) {
    switch kv {
    case .fp32: forward(units, FP32Elements(q), kv: FP32Elements(kv), into: FP32Elements(o))
    case .bf16: forward(units, BFloat16Elements(q), kv: BFloat16Elements(kv), into: BFloat16Elements(o))
    }
  }
}

/// Writes dq [b, w] and dkv [n, 2w] (every element has one source), given dO [b, w] and what `rowAttention` read and
/// wrote. With P and D as in `attentionBackward`, of one row: dV = Pᵀ dO; dS = P (dO Vᵀ − D) / √d; dq = dS K; dK = dSᵀ
/// q.
@specialized(where S == Float) @specialized(where S == Double)
public func rowAttentionBackward<S: Scalar>(
  _ dO: MatrixOperand<S>, o: MatrixOperand<S>, q: MatrixOperand<S>, kv: MatrixOperand<S>, _ pattern: AttentionPattern,
  rows: [Int], logSumExp: Tensor<S>, into gradients: (q: MatrixOperand<S>, kv: MatrixOperand<S>),
  tiles: AttentionTiles<S>
) {
  let (dq, dkv) = gradients
  precondition(
    dO.shape.count == o.shape.count && q.shape.count == o.shape.count && dq.shape.count == q.shape.count
      && dkv.shape.count == kv.shape.count, "attention backward of \(dO.shape) into \(dq.shape), \(dkv.shape)")
  let units = RowAttentionUnits(pattern, rows, o.shape, kv: kv.shape, logSumExp, tiles, each: 2)
  Profile.measure(\.attention) {
    switch kv {
    case .fp32:
      backward(
        units, FP32Elements(dO), o: FP32Elements(o), FP32Elements(q), kv: FP32Elements(kv),
        into: (FP32Elements(dq), FP32Elements(dkv)))
    case .bf16:
      backward(
        units, BFloat16Elements(dO), o: BFloat16Elements(o), BFloat16Elements(q), kv: BFloat16Elements(kv),
        into: (BFloat16Elements(dq), BFloat16Elements(dkv)))
    }
  }
}

/// The work, in units of one head of one sequence.
private struct RowAttentionUnits<S: Scalar> {
  let pattern: AttentionPattern
  let rows: [Int]
  let w: Int
  let logSumExp: Pointer<S>
  /// The numbers of a thread's scratch: one or two for each key of the longest sequence, and a sum of d columns.
  let room: Int
  let scratch: Pointer<S>

  init(
    _ pattern: AttentionPattern, _ rows: [Int], _ o: Shape, kv: Shape, _ logSumExp: Tensor<S>,
    _ tiles: AttentionTiles<S>, each number: Int
  ) {
    let (sequences, heads) = (pattern.sequences, pattern.heads)
    precondition(
      o.rows == sequences.count && rows.count == sequences.count && kv.rows == sequences.total
        && kv.columns == 2 * o.columns && o.columns % heads == 0 && logSumExp.count == heads * rows.count,
      "attention of \(rows.count) rows of \(kv) with \(heads) heads into \(o)")
    precondition(rows.indices.allSatisfy { sequences[$0].contains(rows[$0]) }, "a row outside its sequence")
    (self.pattern, self.rows, w, self.logSumExp) = (pattern, rows, o.columns, logSumExp.pointer)
    room = number * sequences.longest + o.columns / heads
    scratch = tiles.fp32.tensor(Shape(Threads.parts(rows.count * heads, grain: 1), room)).pointer
  }

  var count: Int { rows.count * pattern.heads }
  var headWidth: Int { w / pattern.heads }

  /// Returns the first row of a sequence, its length, and the number of its rows that the query attends to.
  @inline(__always) func keys(of sequence: Int) -> (start: Int, length: Int, seen: Int) {
    let range = pattern.sequences[sequence]
    let seen = pattern.isCausal ? rows[sequence] + 1 - range.lowerBound : range.count
    return (range.lowerBound, range.count, seen)
  }
}

@inline(__always)
private func forward<E: Elements>(_ units: RowAttentionUnits<E.Number>, _ q: E, kv: E, into o: E) {
  let (w, d, heads, b) = (units.w, units.headWidth, units.pattern.heads, units.rows.count)
  let scale = 1 / E.Number.sqrt(E.Number(d))
  Threads.split(units.count) { part, range in
    let sum = units.scratch + part * units.room
    let p = sum + d
    for unit in range {
      let (sequence, head) = (unit / heads, unit % heads)
      let (start, length, seen) = units.keys(of: sequence)
      let at = sequence * w + head * d
      let k = kv.advanced(by: start * 2 * w + head * d)
      for j in 0..<seen { p[j] = E.dot(q.advanced(by: at), k.advanced(by: j * 2 * w), d) }
      units.logSumExp[head * b + sequence] = softmaxRow(p, seen: seen, of: length, scale: scale)
      sumRows(k.advanced(by: w), stride: 2 * w, times: p, seen, into: sum, d)
      o.advanced(by: at).take(sum, d)
    }
  }
}

@inline(__always)
private func backward<E: Elements>(
  _ units: RowAttentionUnits<E.Number>, _ dO: E, o: E, _ q: E, kv: E, into gradients: (q: E, kv: E)
) {
  let (w, d, heads, b) = (units.w, units.headWidth, units.pattern.heads, units.rows.count)
  let scale = 1 / E.Number.sqrt(E.Number(d))
  Threads.split(units.count) { part, range in
    let sum = units.scratch + part * units.room
    let (p, dS) = (sum + d, sum + d + units.pattern.sequences.longest)
    for unit in range {
      let (sequence, head) = (unit / heads, unit % heads)
      let (start, length, seen) = units.keys(of: sequence)
      let (at, first) = (sequence * w + head * d, start * 2 * w + head * d)
      let (query, slope) = (q.advanced(by: at), dO.advanced(by: at))
      let (k, dk) = (kv.advanced(by: first), gradients.kv.advanced(by: first))
      let (v, dv) = (k.advanced(by: w), dk.advanced(by: w))
      for j in 0..<seen {
        p[j] = E.dot(query, k.advanced(by: j * 2 * w), d)
        dS[j] = E.dot(slope, v.advanced(by: j * 2 * w), d)
      }
      let along = E.dot(o.advanced(by: at), slope, d)
      let logSumExp = units.logSumExp[head * b + sequence]
      softmaxRowBackward(p, dS, seen: seen, of: length, scale: scale, logSumExp: logSumExp, along: along)
      for j in 0..<length {
        let (dkRow, dvRow, key, chance) = (dk.advanced(by: j * 2 * w), dv.advanced(by: j * 2 * w), dS[j], p[j])
        for c in 0..<d {
          dvRow[c] = chance * slope[c]
          dkRow[c] = key * query[c]
        }
      }
      sumRows(k, stride: 2 * w, times: dS, seen, into: sum, d)
      gradients.q.advanced(by: at).take(sum, d)
    }
  }
}

/// sum ← Σ_j p_j x_j over `count` rows x_j of d columns, whose beginnings are `stride` elements apart.
@inline(__always)
private func sumRows<E: Elements>(
  _ x: E, stride: Int, times p: Pointer<E.Number>, _ count: Int, into sum: Pointer<E.Number>, _ d: Int
) {
  for c in 0..<d { sum[c] = 0 }
  for j in 0..<count {
    let (row, factor) = (x.advanced(by: j * stride), p[j])
    for c in 0..<d { sum[c] = sum[c].addingProduct(factor, row[c]) }
  }
}
