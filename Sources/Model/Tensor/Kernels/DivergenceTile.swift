internal import RealModule

// p is the softmax of z = studentScale · c over a row's candidates, q that of y = teacherScale · r.

/// A tile of the student's products c and the teacher's r, [b, t] each, with the scales that make them logits.
public struct SimilarityTile<S: Scalar> {
  let student: Tensor<S>
  let studentScale: S
  let teacher: Tensor<S>
  let teacherScale: S
  /// The column that row 0 leaves out, counted from the tile's first, if any; row i leaves out the i-th behind it.
  let leavingOut: Int?

  public init(_ c: Tensor<S>, studentScale: S, _ r: Tensor<S>, teacherScale: S, leavingOut: Int? = nil) {
    precondition(r.count == c.count, "\(c.shape) and \(r.shape)")
    (student, self.studentScale, teacher, self.teacherScale) = (c, studentScale, r, teacherScale)
    self.leavingOut = leavingOut
  }
}

/// The results for b rows of student and teacher logits, folded over tiles; each vector is [b].
public struct DivergenceRows<S: Scalar> {
  /// While folding, the running maximum m of z; then its log-sum-exp.
  public let studentLSE: Tensor<S>
  /// The same of y, n while folding.
  public let teacherLSE: Tensor<S>
  /// While folding, Σ e^(y − n) δ with δ = (y − n) − (z − m), or −Σ e^(z − m) δ if reversed; then the divergence.
  public let divergence: Tensor<S>
  /// While folding, Σ e^(y − n) (y − n); then the teacher's entropy −Σ q ln q.
  public let entropy: Tensor<S>
  /// Σ e^(z − m) and Σ e^(y − n).
  let sums: (Tensor<S>, Tensor<S>)

  /// Lays the rows out in scratch; the caller provides the vectors of the two log-sum-exps.
  public init(count b: Int, scratch: Buffer<S>, studentLSE: Tensor<S>, teacherLSE: Tensor<S>) {
    precondition(studentLSE.count == b && teacherLSE.count == b, "vectors of \(b), not \(studentLSE.shape)")
    let memory = scratch.tensor(Shape(4 * b))
    (self.studentLSE, self.teacherLSE) = (studentLSE, teacherLSE)
    (divergence, entropy) = (memory.slice(0..<b), memory.slice(b..<2 * b))
    sums = (memory.slice(2 * b..<3 * b), memory.slice(3 * b..<4 * b))
    fill(memory, 0)
    for maximum in [studentLSE, teacherLSE] { fill(maximum, -S.infinity) }
  }
}

/// Folds a tile into some rows of `state`: log-sum-exps, divergence and entropy in one pass over the products.
/// KL(q ‖ p) = Σ q δ − ln Σ e^(y − n) + ln Σ e^(z − m), or KL(p ‖ q) with `reversed`: without normalised q or p, so
/// that its sums can be kept up while the maxima grow, and from differences only: large logits cost no digits.
@specialized(where S == Float) @specialized(where S == Double)
public func foldDivergence<S: Scalar>(
  _ tile: SimilarityTile<S>, rows: Range<Int>, of state: DivergenceRows<S>, reversed: Bool = false
) {
  let (b, t) = (tile.student.rows, tile.student.columns)
  precondition(rows.count == b && rows.upperBound <= state.studentLSE.count, "\(rows) for \(tile.student.shape)")
  let (p, q, own) = (tile.student.pointer, tile.teacher.pointer, tile.leavingOut)
  let (studentScale, teacherScale) = (tile.studentScale, tile.teacherScale)
  let (m, n) = (state.studentLSE.pointer + rows.lowerBound, state.teacherLSE.pointer + rows.lowerBound)
  let (s, u) = (state.sums.0.pointer + rows.lowerBound, state.sums.1.pointer + rows.lowerBound)
  let (d, e) = (state.divergence.pointer + rows.lowerBound, state.entropy.pointer + rows.lowerBound)
  Threads.split(b, grain: 8) { _, range in
    for i in range {
      let (student, teacher) = (p + i * t, q + i * t)
      let (before, after) = candidates(t, without: own.map { $0 + i })
      var (largest, highest) = (m[i], n[i])
      for half in 0..<2 {
        let part = half == 0 ? before : after
        largest = max(largest, scaledLargest(student, part, scale: studentScale))
        highest = max(highest, scaledLargest(teacher, part, scale: teacherScale))
      }
      // The sums so far are relative to the old maxima.
      if s[i] > 0 {
        let (fall, fallTeacher) = (m[i] - largest, n[i] - highest)
        let (shrink, shrinkTeacher) = (S.exponential(fall), S.exponential(fallTeacher))
        let gap = fallTeacher - fall
        d[i] = reversed ? (d[i] - s[i] * gap) * shrink : (d[i] + u[i] * gap) * shrinkTeacher
        e[i] = (e[i] + u[i] * fallTeacher) * shrinkTeacher
        s[i] *= shrink
        u[i] *= shrinkTeacher
      }
      var (sum, sumTeacher, cross, energy): (S, S, S, S) = (0, 0, 0, 0)
      for half in 0..<2 {
        for j in half == 0 ? before : after {
          let (z, y) = (studentScale * student[j] - largest, teacherScale * teacher[j] - highest)
          let (ez, ey) = (S.exponential(z), S.exponential(y))
          sum = Relaxed.sum(sum, ez)
          sumTeacher = Relaxed.sum(sumTeacher, ey)
          cross = Relaxed.multiplyAdd(reversed ? ez : ey, reversed ? z - y : y - z, cross)
          energy = Relaxed.multiplyAdd(ey, y, energy)
        }
      }
      (d[i], e[i], s[i], u[i]) = (d[i] + cross, e[i] + energy, s[i] + sum, u[i] + sumTeacher)
      (m[i], n[i]) = (largest, highest)
    }
  }
}

/// Returns the columns of a tile of t columns before and after the one that is left out.
@inline(__always) func candidates(_ t: Int, without own: Int?) -> (Range<Int>, Range<Int>) {
  guard let own, own >= 0, own < t else { return (0..<t, t..<t) }
  return (0..<own, own + 1..<t)
}

/// Turns the folded sums into log-sum-exps, divergences (which are set to 0 if rounding left them below) and entropies.
public func finishDivergence<S: Scalar>(_ state: DivergenceRows<S>, reversed: Bool = false) {
  for i in 0..<state.studentLSE.count {
    let (sum, sumTeacher) = (state.sums.0[i], state.sums.1[i])
    let (log, logTeacher) = (S.log(sum), S.log(sumTeacher))
    let (gap, cross) = (logTeacher - log, state.divergence[i])
    let divergence = reversed ? cross / sum + gap : cross / sumTeacher - gap
    state.studentLSE[i] += log
    state.teacherLSE[i] += logTeacher
    state.divergence[i] = divergence < 0 ? 0 : divergence
    state.entropy[i] = logTeacher - state.entropy[i] / sumTeacher
  }
}

/// The log-sum-exps of student and teacher and the weight of each anchor, a tile's b rows or its t columns.
public typealias DivergenceAnchors<S: Scalar> = (studentLSE: Tensor<S>, teacherLSE: Tensor<S>, weight: Tensor<S>)

/// c ← G, in place, for divergences of the student's softmaxes from the teacher's.
///
/// G_ij = a_i (p_ij − q_ij) + w_j (p'_ij − q'_ij), where p', q' are the softmaxes down the columns: the gradient with
/// respect to z of Σ a_i KL_i over rows and Σ w_j KL_j over columns. Without columns the second part is left out.
/// `columnTeacher` is r as the anchors in the columns see it; nil if it is the same. Adds Σ_j G_ij c_ij to `along` [b].
@specialized(where S == Float) @specialized(where S == Double)
public func divergenceGradient<S: Scalar>(
  _ tile: SimilarityTile<S>, rows: DivergenceAnchors<S>, columns: DivergenceAnchors<S>?,
  columnTeacher: Tensor<S>? = nil, along: Tensor<S>
) {
  let (b, t) = (tile.student.rows, tile.student.columns)
  precondition(columnTeacher.map { $0.count == b * t } ?? true, "\(tile.student.shape)")
  precondition(rows.weight.count == b && along.count == b, "vectors of \(b) for the rows of \(tile.student.shape)")
  precondition(columns.map { $0.weight.count == t } ?? true, "vectors of \(t) for the columns of \(tile.student.shape)")
  let (p, q, back) = (tile.student.pointer, tile.teacher.pointer, (columnTeacher ?? tile.teacher).pointer)
  let (studentScale, teacherScale, sums) = (tile.studentScale, tile.teacherScale, along.pointer)
  let (m, n, a) = (rows.studentLSE.pointer, rows.teacherLSE.pointer, rows.weight.pointer)
  let down = columns.map { ($0.studentLSE.pointer, $0.teacherLSE.pointer, $0.weight.pointer) }
  Threads.split(b, grain: 8) { _, range in
    for i in range {
      let (student, teacher, lse, teacherLSE, weight) = (p + i * t, q + i * t, m[i], n[i], a[i])
      var total: S = 0
      if let (columnLSE, columnTeacherLSE, columnWeight) = down {
        let opposite = back + i * t
        for j in 0..<t {
          let z = studentScale * student[j]
          let along = S.exponential(z - lse) - S.exponential(teacherScale * teacher[j] - teacherLSE)
          let across =
            S.exponential(z - columnLSE[j]) - S.exponential(teacherScale * opposite[j] - columnTeacherLSE[j])
          let g = weight * along + columnWeight[j] * across
          total = Relaxed.multiplyAdd(g, student[j], total)
          student[j] = g
        }
      } else {
        for j in 0..<t {
          let (z, y) = (studentScale * student[j], teacherScale * teacher[j])
          let g = weight * (S.exponential(z - lse) - S.exponential(y - teacherLSE))
          total = Relaxed.multiplyAdd(g, student[j], total)
          student[j] = g
        }
      }
      sums[i] += total
    }
  }
}

// Tiles of one modality against itself: c = ⟨u_i, u_j⟩ of the student, r = ⟨x_i, x_j⟩ of the teacher, both symmetric,
// so that a tile of local rows also holds what the columns, as anchors, see of those rows.

/// The divergence D of p (student) from q (teacher) for each anchor, with its slope A_ij = ∂D_i/∂z_ij.
public enum IntraForm: Sendable {
  /// KL(q ‖ p): A = p − q.
  case forward
  /// KL(p ‖ q): A = p (ln(p/q) − D), where the anchors' `number` is D.
  case reverse
  /// ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2: A = ½ p (ln(p/m) − K), where the anchors' `number` is K = KL(p ‖ m).
  case jensenShannon
  /// Σ_j t_ij q_ij ln(q_ij/p_ij) with constant t = |p − q|: A = p B − t q, where `number` is B = Σ_j t_ij q_ij.
  case pairs
  /// The same sum over the sum of t, of which all anchors or each one has the ratio R: with s the sign of p − q,
  /// A = s p (q ln(q/p) − R) − t q − p C, where `number` is C = Σ_j (s p (q ln(q/p) − R) − t q)_ij. The factor g holds
  /// the sum of t.
  case pairsWithGradient
}

/// The numbers of anchors that the gradient needs, in vectors over a tile's b rows or t columns.
public struct IntraAnchors<S: Scalar> {
  public let studentLSE: Tensor<S>
  public let teacherLSE: Tensor<S>
  /// g = ∂L/∂D.
  public let factor: Tensor<S>
  /// The number that the form of divergence asks for.
  public let number: Tensor<S>
  /// R, which `pairsWithGradient` alone reads.
  public let ratio: Tensor<S>?

  public init(
    studentLSE: Tensor<S>, teacherLSE: Tensor<S>, factor: Tensor<S>, number: Tensor<S>, ratio: Tensor<S>? = nil
  ) {
    (self.studentLSE, self.teacherLSE, self.factor, self.number) = (studentLSE, teacherLSE, factor, number)
    self.ratio = ratio
  }

  public func slice(_ range: Range<Int>) -> IntraAnchors {
    IntraAnchors(
      studentLSE: studentLSE.slice(range), teacherLSE: teacherLSE.slice(range), factor: factor.slice(range),
      number: number.slice(range), ratio: ratio?.slice(range))
  }
}

/// c ← G, in place: G_ij = g_i A_ij + g_j A_ji, so that dU_i = studentScale Σ_j G_ij u_j; 0 in columns that are left
/// out. `columnTeacher` is as for `divergenceGradient`. Adds Σ_j g_i A_ij c_ij to `along` [b].
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
  case .pairsWithGradient:
    precondition(rows.ratio?.count == c.rows && columns.ratio?.count == c.columns, "ratios for \(c.shape)")
    gradient(WeightedPairSlope.self, tile, back, rows, columns, along)
  }
}

/// Adds sums over candidates that need the finished log-sum-exps to four vectors [b].
/// `jensenShannon`: first Σ p ln(p/m), second Σ q ln(q/m). `pairs`: first Σ t q, second Σ t q ln(q/p), third Σ t.
/// `pairsWithGradient`: first Σ (s p q ln(q/p) − t q), second and third the same, fourth Σ s p.
@specialized(where S == Float) @specialized(where S == Double)
public func intraSums<S: Scalar>(
  _ tile: SimilarityTile<S>, studentLSE: Tensor<S>, teacherLSE: Tensor<S>, form: IntraForm,
  into sums: (Tensor<S>, Tensor<S>, Tensor<S>, Tensor<S>)
) {
  let (b, t) = (tile.student.rows, tile.student.columns)
  precondition(studentLSE.count == b && sums.0.count == b, "vectors of \(b) for the rows of \(tile.student.shape)")
  let (p, q, m, n) = (tile.student.pointer, tile.teacher.pointer, studentLSE.pointer, teacherLSE.pointer)
  let (studentScale, teacherScale, own) = (tile.studentScale, tile.teacherScale, tile.leavingOut)
  let (first, second, third, fourth) = (sums.0.pointer, sums.1.pointer, sums.2.pointer, sums.3.pointer)
  Threads.forEach(b, grain: 8) { i in
    let (student, teacher) = (p + i * t, q + i * t)
    let (before, after) = candidates(t, without: own.map { $0 + i })
    var total: (S, S, S, S) = (0, 0, 0, 0)
    for half in 0..<2 {
      for j in half == 0 ? before : after {
        let (z, y) = (studentScale * student[j] - m[i], teacherScale * teacher[j] - n[i])
        let (pj, qj) = (S.exponential(z), S.exponential(y))
        if form == .jensenShannon {
          total.0 += pj * logRatioToMean(y - z)
          total.1 += qj * logRatioToMean(z - y)
        } else {
          let gap = abs(pj - qj)
          total.1 += gap * qj * (y - z)
          total.2 += gap
          if form == .pairs {
            total.0 += gap * qj
          } else {
            let rising = signed(pj, pj - qj)
            total.0 += rising * qj * (y - z) - gap * qj
            total.3 += rising
          }
        }
      }
    }
    first[i] += total.0
    second[i] += total.1
    third[i] += total.2
    fourth[i] += total.3
  }
}

/// Returns x times the sign of `gap`, which is 0 for 0.
@inline(__always) private func signed<S: Scalar>(_ x: S, _ gap: S) -> S { gap > 0 ? x : gap < 0 ? -x : 0 }

/// Returns ln(a/m) for m = (a + b)/2, given ln(b/a) = x: ln 2 − ln(1 + eˣ), from e^(−|x|), which cannot overflow.
@inline(__always) private func logRatioToMean<S: Scalar>(_ x: S) -> S {
  S.log(2) - (x > 0 ? x : 0) - S.log(onePlus: S.exp(-abs(x)))
}

/// Computes A_ij from the logarithms z = ln p_ij and y = ln q_ij, and the anchor's number and ratio.
private protocol IntraSlope {
  static func slope<S: Scalar>(_ z: S, _ y: S, _ number: S, _ ratio: S) -> S
}

private enum ForwardSlope: IntraSlope {
  @inline(__always)
  static func slope<S: Scalar>(_ z: S, _ y: S, _: S, _: S) -> S { S.exponential(z) - S.exponential(y) }
}

private enum ReverseSlope: IntraSlope {
  @inline(__always)
  static func slope<S: Scalar>(_ z: S, _ y: S, _ number: S, _: S) -> S { S.exponential(z) * (z - y - number) }
}

private enum JensenShannonSlope: IntraSlope {
  @inline(__always) static func slope<S: Scalar>(_ z: S, _ y: S, _ number: S, _: S) -> S {
    0.5 * S.exponential(z) * (logRatioToMean(y - z) - number)
  }
}

private enum PairSlope: IntraSlope {
  @inline(__always) static func slope<S: Scalar>(_ z: S, _ y: S, _ number: S, _: S) -> S {
    let (p, q) = (S.exponential(z), S.exponential(y))
    return p * number - abs(p - q) * q
  }
}

private enum WeightedPairSlope: IntraSlope {
  @inline(__always) static func slope<S: Scalar>(_ z: S, _ y: S, _ number: S, _ ratio: S) -> S {
    let (p, q) = (S.exponential(z), S.exponential(y))
    return signed(p, p - q) * (q * (y - z) - ratio) - abs(p - q) * q - p * number
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
  let (columnLSE, columnTeacherLSE) = (columns.studentLSE.pointer, columns.teacherLSE.pointer)
  let (columnFactor, columnNumber) = (columns.factor.pointer, columns.number.pointer)
  // A form that has no ratios ignores the numbers that stand in for them.
  let (ratios, columnRatio) = ((rows.ratio ?? rows.number).pointer, (columns.ratio ?? columns.number).pointer)
  let (studentScale, teacherScale, leftOut) = (tile.studentScale, tile.teacherScale, tile.leavingOut)
  Threads.split(b, grain: 8) { _, range in
    for i in range {
      let (student, teacher, opposite) = (p + i * t, q + i * t, back + i * t)
      let (lse, teacherLSE, factor, number, ratio) = (m[i], n[i], f[i], k[i], ratios[i])
      let (before, after) = candidates(t, without: leftOut.map { $0 + i })
      var total: S = 0
      for half in 0..<2 {
        for j in half == 0 ? before : after {
          let z = studentScale * student[j]
          let own = factor * Form.slope(z - lse, teacherScale * teacher[j] - teacherLSE, number, ratio)
          let across = Form.slope(
            z - columnLSE[j], teacherScale * opposite[j] - columnTeacherLSE[j], columnNumber[j], columnRatio[j])
          total = Relaxed.multiplyAdd(own, student[j], total)
          student[j] = own + columnFactor[j] * across
        }
      }
      if after.lowerBound > before.upperBound { student[before.upperBound] = 0 }
      sums[i] += total
    }
  }
}
