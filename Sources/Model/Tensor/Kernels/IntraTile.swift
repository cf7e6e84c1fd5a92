internal import RealModule

// Tiles of one modality against itself: c = ⟨u_i, u_j⟩ of the student, r = ⟨x_i, x_j⟩ of the teacher. Both are
// symmetric, so a tile of local rows also holds what the columns, as anchors, see of those rows.

/// The divergence D of p (student) from q (teacher) for each anchor, with its slope A_ij = ∂D_i/∂z_ij.
public enum IntraForm: Sendable {
  /// KL(q ‖ p): A = p − q.
  case forward
  /// KL(p ‖ q): A = p (ln(p/q) − D), where the anchors' `number` is D.
  case reverse
  /// ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2: A = ½ p (ln(p/m) − K), where the anchors' `number` is K = KL(p ‖ m).
  case jensenShannon
  /// Σ_j t_ij q_ij ln(q_ij/p_ij) with constant t = |p − q|: A = p B − t q, where the anchors' `number` is
  /// B = Σ_j t_ij q_ij.
  case pairs
}

/// The numbers of anchors that the gradient needs, in vectors over a tile's b rows or t columns.
public struct IntraAnchors<S: Scalar> {
  public let studentLSE: Tensor<S>
  public let teacherLSE: Tensor<S>
  /// g = ∂L/∂D.
  public let factor: Tensor<S>
  /// The number that the form of divergence asks for.
  public let number: Tensor<S>

  public init(studentLSE: Tensor<S>, teacherLSE: Tensor<S>, factor: Tensor<S>, number: Tensor<S>) {
    (self.studentLSE, self.teacherLSE, self.factor, self.number) = (studentLSE, teacherLSE, factor, number)
  }

  public func slice(_ range: Range<Int>) -> IntraAnchors {
    IntraAnchors(
      studentLSE: studentLSE.slice(range), teacherLSE: teacherLSE.slice(range), factor: factor.slice(range),
      number: number.slice(range))
  }
}

/// c ← G, in place: G_ij = g_i A_ij + g_j A_ji, so that dU_i = studentScale Σ_j G_ij u_j; 0 in columns that are left
/// out. `columnTeacher` is r as the anchors in the columns see it; nil if it is the same. Adds Σ_j g_i A_ij c_ij to
/// `along` [b].
@specialized(where S == Float) @specialized(where S == Double)
public func intraGradient<S: Scalar>(
  _ tile: SimilarityTile<S>, rows: IntraAnchors<S>, columns: IntraAnchors<S>, columnTeacher: Tensor<S>? = nil,
  form: IntraForm, along: Tensor<S>
) {
  let (c, back) = (tile.student, columnTeacher ?? tile.teacher)
  precondition(
    back.count == c.count && rows.factor.count == c.rows && columns.factor.count == c.columns && along.count == c.rows,
    "\(c.shape) with \(rows.factor.shape), \(columns.factor.shape)")
  switch form {
  case .forward: gradient(ForwardSlope.self, tile, back, rows, columns, along)
  case .reverse: gradient(ReverseSlope.self, tile, back, rows, columns, along)
  case .jensenShannon: gradient(JensenShannonSlope.self, tile, back, rows, columns, along)
  case .pairs: gradient(PairSlope.self, tile, back, rows, columns, along)
  }
}

/// Adds sums over candidates that need the finished log-sum-exps to three vectors [b].
///
/// `jensenShannon`: first Σ p ln(p/m), second Σ q ln(q/m). `pairs`: first Σ t q, second Σ t q ln(q/p), third Σ t.
@specialized(where S == Float) @specialized(where S == Double)
public func intraSums<S: Scalar>(
  _ tile: SimilarityTile<S>, studentLSE: Tensor<S>, teacherLSE: Tensor<S>, form: IntraForm,
  into sums: (Tensor<S>, Tensor<S>, Tensor<S>)
) {
  let (b, t) = (tile.student.rows, tile.student.columns)
  precondition(studentLSE.count == b && sums.0.count == b, "vectors of \(b) for the rows of \(tile.student.shape)")
  let (p, q, m, n) = (tile.student.pointer, tile.teacher.pointer, studentLSE.pointer, teacherLSE.pointer)
  let (studentScale, teacherScale, own) = (tile.studentScale, tile.teacherScale, tile.leavingOut)
  let (first, second, third) = (sums.0.pointer, sums.1.pointer, sums.2.pointer)
  Threads.split(b, grain: 8) { _, range in
    for i in range {
      let (student, teacher) = (p + i * t, q + i * t)
      let (before, after) = candidates(t, without: own.map { $0 + i })
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

/// Returns ln(a/m) for m = (a + b)/2, given ln(b/a) = x: ln 2 − ln(1 + eˣ).
@inline(__always)
private func logRatioToMean<S: Scalar>(_ x: S) -> S {
  // Written with e^(−|x|), so that nothing overflows.
  let overflow = x > 0 ? x : 0
  return S.log(2) - overflow - S.log(onePlus: S.exp(-abs(x)))
}

/// Computes A_ij from the logarithms z = ln p_ij and y = ln q_ij.
private protocol IntraSlope {
  static func slope<S: Scalar>(logP z: S, logQ y: S, number: S) -> S
}

private enum ForwardSlope: IntraSlope {
  @inline(__always)
  static func slope<S: Scalar>(logP z: S, logQ y: S, number: S) -> S { S.exponential(z) - S.exponential(y) }
}

private enum ReverseSlope: IntraSlope {
  @inline(__always)
  static func slope<S: Scalar>(logP z: S, logQ y: S, number: S) -> S { S.exponential(z) * (z - y - number) }
}

private enum JensenShannonSlope: IntraSlope {
  @inline(__always)
  static func slope<S: Scalar>(logP z: S, logQ y: S, number: S) -> S {
    0.5 * S.exponential(z) * (logRatioToMean(y - z) - number)
  }
}

private enum PairSlope: IntraSlope {
  @inline(__always)
  static func slope<S: Scalar>(logP z: S, logQ y: S, number: S) -> S {
    let (p, q) = (S.exponential(z), S.exponential(y))
    return p * number - abs(p - q) * q
  }
}

@inline(__always)
private func gradient<S: Scalar, Form: IntraSlope>(
  _: Form.Type, _ tile: SimilarityTile<S>, _ columnTeacher: Tensor<S>, _ rows: IntraAnchors<S>,
  _ columns: IntraAnchors<S>, _ along: Tensor<S>
) {
  let (b, t) = (tile.student.rows, tile.student.columns)
  let (p, q, back, sums) = (tile.student.pointer, tile.teacher.pointer, columnTeacher.pointer, along.pointer)
  let (m, n, f, k) = (rows.studentLSE.pointer, rows.teacherLSE.pointer, rows.factor.pointer, rows.number.pointer)
  let (columnLSE, columnTeacherLSE, columnFactor, columnNumber) = (
    columns.studentLSE.pointer, columns.teacherLSE.pointer, columns.factor.pointer, columns.number.pointer
  )
  let (studentScale, teacherScale, leftOut) = (tile.studentScale, tile.teacherScale, tile.leavingOut)
  Threads.split(b, grain: 8) { _, range in
    for i in range {
      let (student, teacher, opposite) = (p + i * t, q + i * t, back + i * t)
      let (lse, teacherLSE, factor, number) = (m[i], n[i], f[i], k[i])
      let (before, after) = candidates(t, without: leftOut.map { $0 + i })
      var total: S = 0
      for half in 0..<2 {
        let part = half == 0 ? before : after
        for j in part {
          let z = studentScale * student[j]
          let own = factor * Form.slope(logP: z - lse, logQ: teacherScale * teacher[j] - teacherLSE, number: number)
          let other =
            columnFactor[j]
            * Form.slope(
              logP: z - columnLSE[j], logQ: teacherScale * opposite[j] - columnTeacherLSE[j],
              number: columnNumber[j])
          total = Relaxed.multiplyAdd(own, student[j], total)
          student[j] = own + other
        }
      }
      if after.lowerBound > before.upperBound { student[before.upperBound] = 0 }
      sums[i] += total
    }
  }
}
