internal import RealModule

// Tiles of one modality against itself: c = ⟨u_i, u_j⟩ of the student, r = ⟨x_i, x_j⟩ of the teacher. Both are
// symmetric, so a tile of own rows also says what the columns, as anchors, see of those rows.

/// Which divergence of p (student) from q (teacher) an anchor has, and so its slope A_ij = ∂D_i/∂z_ij.
public enum IntraForm: Sendable {
  /// KL(q ‖ p): A = p − q.
  case forward
  /// KL(p ‖ q): A = p (ln(p/q) − D), with D as the anchors' number.
  case reverse
  /// ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2: A = ½ p (ln(p/m) − K), with K = KL(p ‖ m) as the anchors' number.
  case jensenShannon
  /// Σ_j t_ij q_ij ln(q_ij/p_ij) with constant t = |p − q|: A = p B − t q, with B = Σ_j t_ij q_ij as the anchors'
  /// number.
  case pairs
}

/// What the gradient needs of anchors, the tile's rows or its columns: vectors of as many numbers.
public struct IntraAnchors<S: Scalar> {
  public let studentLSE: Tensor<S>
  public let teacherLSE: Tensor<S>
  /// g = ∂L/∂D.
  public let factor: Tensor<S>
  /// The number that the form wants.
  public let number: Tensor<S>

  public init(studentLSE: Tensor<S>, teacherLSE: Tensor<S>, factor: Tensor<S>, number: Tensor<S>) {
    self.studentLSE = studentLSE
    self.teacherLSE = teacherLSE
    self.factor = factor
    self.number = number
  }

  public func slice(_ range: Range<Int>) -> IntraAnchors {
    IntraAnchors(
      studentLSE: studentLSE.slice(range), teacherLSE: teacherLSE.slice(range), factor: factor.slice(range),
      number: number.slice(range))
  }
}

/// C → G, in place: G_ij = g_i A_ij + g_j A_ji, so that dU_i = scale Σ_j G_ij u_j. Adds Σ_j g_i A_ij c_ij to `along`.
///
/// `masked` makes the own column 0; it is `diagonal + i` from the tile's first. `columnTeacher` is the teacher's tile
/// as the columns' anchors have it, nil where it is r.
@specialized(where S == Float)
@specialized(where S == Double)
public func intraGradient<S: Scalar>(
  _ c: Tensor<S>, studentScale: S, _ r: Tensor<S>, teacherScale: S, rows: IntraAnchors<S>, columns: IntraAnchors<S>,
  columnTeacher: Tensor<S>? = nil, diagonal: Int, masked: Bool, form: IntraForm, along: Tensor<S>
) {
  let back = columnTeacher ?? r
  precondition(
    r.count == c.count && back.count == c.count && rows.factor.count == c.rows && columns.factor.count == c.columns
      && along.count == c.rows,
    "\(c.shape) and \(r.shape) with \(rows.factor.shape), \(columns.factor.shape)")
  let tile = IntraTile(
    c: c, r: r, back: back, scales: (studentScale, teacherScale), rows: rows, columns: columns, diagonal: diagonal,
    masked: masked, along: along)
  switch form {
  case .forward: tile.gradient(ForwardSlope.self)
  case .reverse: tile.gradient(ReverseSlope.self)
  case .jensenShannon: tile.gradient(JensenShannonSlope.self)
  case .pairs: tile.gradient(PairSlope.self)
  }
}

/// Sums over candidates that need the finished log-sum-exps, added to one vector of numbers a row each.
///
/// `jensenShannon`: first Σ p ln(p/m), second Σ q ln(q/m). `pairs`: first Σ t q, second Σ t q ln(q/p), third Σ t.
@specialized(where S == Float)
@specialized(where S == Double)
public func intraSums<S: Scalar>(
  _ c: Tensor<S>, studentScale: S, _ r: Tensor<S>, teacherScale: S, studentLSE: Tensor<S>, teacherLSE: Tensor<S>,
  diagonal: Int, masked: Bool, form: IntraForm, into sums: (Tensor<S>, Tensor<S>, Tensor<S>)
) {
  let (b, t) = (c.rows, c.columns)
  precondition(r.count == c.count && studentLSE.count == b && sums.0.count == b, "\(c.shape) and \(r.shape)")
  let (p, q, m, n) = (c.pointer, r.pointer, studentLSE.pointer, teacherLSE.pointer)
  let (first, second, third) = (sums.0.pointer, sums.1.pointer, sums.2.pointer)
  Threads.split(b, grain: 8) { _, range in
    for i in range {
      let (student, teacher) = (p + i * t, q + i * t)
      let (before, after) = candidates(t, without: masked ? diagonal + i : nil)
      var total: (S, S, S) = (0, 0, 0)
      for half in 0..<2 {
        let part = half == 0 ? before : after
        for j in part {
          let (z, y) = (studentScale * student[j] - m[i], teacherScale * teacher[j] - n[i])
          let (pj, qj) = (S.exponential(z), S.exponential(y))
          if form == .jensenShannon {
            total.0 += pj * logRatioToMean(y - z)
            total.1 += qj * logRatioToMean(z - y)
          } else {
            let gap = abs(pj - qj)
            total.0 += gap * qj
            total.1 += gap * qj * (y - z)
            total.2 += gap
          }
        }
      }
      first[i] += total.0
      second[i] += total.1
      third[i] += total.2
    }
  }
}

/// ln(a/m) for m = (a + b)/2, given ln(b/a) = x: ln 2 − ln(1 + eˣ).
@inline(__always)
private func logRatioToMean<S: Scalar>(_ x: S) -> S {
  // Of the larger of the two exponentials 1 is the other, so nothing overflows.
  let overflow = x > 0 ? x : 0
  return S.log(2) - overflow - S.log(onePlus: S.exp(-abs(x)))
}

/// A_ij from the logarithms z = ln p_ij and y = ln q_ij.
private protocol IntraSlope {
  static func slope<S: Scalar>(_ z: S, _ y: S, _ number: S) -> S
}

private enum ForwardSlope: IntraSlope {
  @inline(__always)
  static func slope<S: Scalar>(_ z: S, _ y: S, _ number: S) -> S { S.exponential(z) - S.exponential(y) }
}

private enum ReverseSlope: IntraSlope {
  @inline(__always)
  static func slope<S: Scalar>(_ z: S, _ y: S, _ number: S) -> S { S.exponential(z) * (z - y - number) }
}

private enum JensenShannonSlope: IntraSlope {
  @inline(__always)
  static func slope<S: Scalar>(_ z: S, _ y: S, _ number: S) -> S {
    0.5 * S.exponential(z) * (logRatioToMean(y - z) - number)
  }
}

private enum PairSlope: IntraSlope {
  @inline(__always)
  static func slope<S: Scalar>(_ z: S, _ y: S, _ number: S) -> S {
    let (p, q) = (S.exponential(z), S.exponential(y))
    return p * number - abs(p - q) * q
  }
}

private struct IntraTile<S: Scalar> {
  let c: Tensor<S>
  let r: Tensor<S>
  let back: Tensor<S>
  let scales: (S, S)
  let rows: IntraAnchors<S>
  let columns: IntraAnchors<S>
  let diagonal: Int
  let masked: Bool
  let along: Tensor<S>

  @inline(__always)
  func gradient<Form: IntraSlope>(_: Form.Type) {
    let (b, t) = (c.rows, c.columns)
    let (p, q, back, sums) = (c.pointer, r.pointer, back.pointer, along.pointer)
    let (m, n, f, k) = (
      rows.studentLSE.pointer, rows.teacherLSE.pointer, rows.factor.pointer, rows.number.pointer
    )
    let (columnLSE, columnTeacherLSE, columnFactor, columnNumber) = (
      columns.studentLSE.pointer, columns.teacherLSE.pointer, columns.factor.pointer, columns.number.pointer
    )
    let (studentScale, teacherScale) = scales
    Threads.split(b, grain: 8) { _, range in
      for i in range {
        let (student, teacher, opposite) = (p + i * t, q + i * t, back + i * t)
        let (lse, teacherLSE, factor, number) = (m[i], n[i], f[i], k[i])
        let (before, after) = candidates(t, without: masked ? diagonal + i : nil)
        var total: S = 0
        for half in 0..<2 {
          let part = half == 0 ? before : after
          for j in part {
            let z = studentScale * student[j]
            let own = factor * Form.slope(z - lse, teacherScale * teacher[j] - teacherLSE, number)
            let other =
              columnFactor[j]
              * Form.slope(z - columnLSE[j], teacherScale * opposite[j] - columnTeacherLSE[j], columnNumber[j])
            total = Relaxed.multiplyAdd(own, student[j], total)
            student[j] = own + other
          }
        }
        if after.lowerBound > before.upperBound { student[before.upperBound] = 0 }
        sums[i] += total
      }
    }
  }
}
