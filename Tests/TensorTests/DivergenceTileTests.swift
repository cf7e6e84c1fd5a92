import Foundation
import Tensor
import TestSupport
import Testing

/// Tiles of student and teacher products against plain loops over whole rows.
@Suite struct DivergenceTileTests {
  /// Whole rows of products, with ln p and ln q of each row; a row's own column is `first` + its number.
  struct Rows {
    let student: [[Double]]
    let teacher: [[Double]]
    let (logP, logQ): ([[Double]], [[Double]])
    static let (studentScale, teacherScale) = (7.0, 4.0)

    init(_ c: [Double], _ r: [Double], _ b: Int, _ n: Int, without own: (Int) -> Int?) {
      func rows(_ x: [Double]) -> [[Double]] { (0..<b).map { Array(x[$0 * n..<($0 + 1) * n]) } }
      func logSoftmax(_ x: [[Double]], _ scale: Double) -> [[Double]] {
        x.enumerated().map { i, row in
          let z = row.enumerated().map { $0 == own(i) ? -Double.infinity : scale * $1 }
          let lse = log(z.reduce(0) { $0 + exp($1) })
          return z.map { $0 - lse }
        }
      }
      (student, teacher) = (rows(c), rows(r))
      (logP, logQ) = (logSoftmax(student, Self.studentScale), logSoftmax(teacher, Self.teacherScale))
    }

    func divergence(_ i: Int) -> Double {
      zip(logQ[i], logP[i]).reduce(0) { $1.0 == -.infinity ? $0 : $0 + exp($1.0) * ($1.0 - $1.1) }
    }
    func reversed(_ i: Int) -> Double {
      zip(logP[i], logQ[i]).reduce(0) { $1.0 == -.infinity ? $0 : $0 + exp($1.0) * ($1.0 - $1.1) }
    }
    func entropy(_ i: Int) -> Double {
      logQ[i].reduce(0) { $1 == -.infinity ? $0 : $0 - exp($1) * $1 }
    }
    func lse(_ i: Int, _ products: [[Double]], _ scale: Double, without own: Int?) -> Double {
      log(products[i].enumerated().reduce(0) { $1.offset == own ? $0 : $0 + exp(scale * $1.element) })
    }
  }

  @Test(arguments: [1, 2, 5, 13, 100], [true, false]) func folding(tile: Int, masked: Bool) {
    for reversed in [false, true] {
      compareFolding(Double.self, tile, masked, reversed, 1e-13)
      compareFolding(Float.self, tile, masked, reversed, 3e-6)
    }
  }

  private func compareFolding<S: Scalar>(
    _: S.Type, _ tile: Int, _ masked: Bool, _ reversed: Bool, _ tolerance: Double
  ) {
    let (b, n, first) = (7, 13, 3)
    let (c, r) = (Tensor<S>.random(Shape(b, n), "c"), Tensor<S>.random(Shape(b, n), "r"))
    let own: (Int) -> Int? = { masked ? first + $0 : nil }
    let plain = Rows(c.doubles, r.doubles, b, n, without: own)
    let (studentLSE, teacherLSE) = (Tensor<S>(Shape(b)), Tensor<S>(Shape(b)))
    let state = DivergenceRows(count: b, scratch: Buffer<S>(), studentLSE: studentLSE, teacherLSE: teacherLSE)
    for start in stride(from: 0, to: n, by: tile) {
      let columns = start..<min(start + tile, n)
      // Rows come in two pieces, as tiles do.
      for rows in [0..<4, 4..<b] {
        func part(_ x: Tensor<S>) -> Tensor<S> {
          Tensor(Shape(rows.count, columns.count), rows.flatMap { i in columns.map { x[i * n + $0] } })
        }
        let pair = SimilarityTile(
          part(c), studentScale: S(Rows.studentScale), part(r), teacherScale: S(Rows.teacherScale),
          leavingOut: masked ? first + rows.lowerBound - start : nil)
        foldDivergence(pair, rows: rows, of: state, reversed: reversed)
      }
    }
    finishDivergence(state, reversed: reversed)
    for i in 0..<b {
      let wanted = reversed ? plain.reversed(i) : plain.divergence(i)
      #expect(abs(Double(state.divergence[i]) - wanted) <= tolerance, "row \(i)")
      #expect(abs(Double(state.entropy[i]) - plain.entropy(i)) <= tolerance, "row \(i)")
      let lse = plain.lse(i, plain.student, Rows.studentScale, without: own(i))
      #expect(abs(Double(studentLSE[i]) - lse) <= tolerance, "row \(i)")
      let taught = plain.lse(i, plain.teacher, Rows.teacherScale, without: own(i))
      #expect(abs(Double(teacherLSE[i]) - taught) <= tolerance, "row \(i)")
    }
  }

  /// G of a tile whose columns are anchors too, from the softmaxes of both.
  ///
  /// Let u be the unit roundoff. z = 3 c − lse errs by 3 u + 4 u, as |3 c| ≤ 3 and |z| ≤ 4; y = 2 r − lse by 3 u; an
  /// exponential by 2 u more. So p errs by 9 u p, q by 5 u q, and y − z by 10 u (|y| + |z| + 1). With two to four
  /// roundings for products, three for sums of terms and two for factor and both anchors, no term errs by more than 32
  /// u of its size, which has |y| + |z| + 1 for a difference of logarithms and p + q for |p − q|. A row's sum adds 8 u.
  /// The reference errs as much: 80 u together.
  @Test(arguments: [0, 3, -2, 9]) func intraGradients(diagonal: Int) {
    for masked in [true, false] {
      for form in [IntraForm.forward, .reverse, .jensenShannon, .pairs, .pairsWithGradient] {
        compareIntra(Double.self, diagonal, masked, form)
        compareIntra(Float.self, diagonal, masked, form)
      }
    }
  }

  private func compareIntra<S: Scalar>(_: S.Type, _ diagonal: Int, _ masked: Bool, _ form: IntraForm) {
    let (b, t, tolerance) = (5, 7, 80 * S.roundoff)
    let (c, r) = (Tensor<S>.random(Shape(b, t), "c"), Tensor<S>.random(Shape(b, t), "r"))
    func anchors(_ name: String, _ count: Int) -> IntraAnchors<S> {
      func vector(_ part: String) -> Tensor<S> { .random(Shape(count), name + part) }
      return IntraAnchors(
        studentLSE: vector("student"), teacherLSE: vector("teacher"), factor: vector("g"), number: vector("number"),
        ratio: form == .pairsWithGradient ? vector("ratio") : nil)
    }
    let (rows, columns) = (anchors("rows", b), anchors("columns", t))
    let along = Tensor<S>.random(Shape(b), "along")
    let (student, teacher, before) = (c.doubles, r.doubles, along.doubles)
    let tile = SimilarityTile(c, studentScale: 3, r, teacherScale: 2, leavingOut: masked ? diagonal : nil)
    intraGradient(tile, rows: rows, columns: columns, form: form, along: along)
    func slope(_ at: Int, _ anchors: IntraAnchors<S>, _ index: Int) -> (value: Double, size: Double) {
      let z = 3 * student[at] - Double(anchors.studentLSE[index])
      let y = 2 * teacher[at] - Double(anchors.teacherLSE[index])
      let (p, q, logarithms) = (exp(z), exp(y), abs(y) + abs(z) + 1)
      let number = Double(anchors.number[index])
      let (slope, size): (Double, Double)
      switch form {
      case .forward: (slope, size) = (p - q, p + q)
      case .reverse: (slope, size) = (p * (z - y - number), p * (logarithms + abs(number)))
      case .jensenShannon:
        (slope, size) = (0.5 * p * (z - log((p + q) / 2) - number), 0.5 * p * (logarithms + abs(number)))
      case .pairs: (slope, size) = (p * number - abs(p - q) * q, p * abs(number) + (p + q) * q)
      case .pairsWithGradient:
        let ratio = anchors.ratio.map { Double($0[index]) } ?? .nan
        slope = (p > q ? p : -p) * (q * (y - z) - ratio) - abs(p - q) * q - p * number
        size = p * (q * logarithms + abs(ratio) + abs(number)) + (p + q) * q
      }
      let factor = Double(anchors.factor[index])
      return (factor * slope, abs(factor) * size)
    }
    for i in 0..<b {
      var (sum, size) = (before[i], abs(before[i]))
      for j in 0..<t {
        let at = i * t + j
        if masked, j == diagonal + i {
          #expect(c[at] == 0)
          continue
        }
        let (own, other) = (slope(at, rows, i), slope(at, columns, j))
        let error = abs(Double(c[at]) - own.value - other.value)
        #expect(error <= tolerance * (own.size + other.size), "\(form) [\(i), \(j)]")
        sum += own.value * student[at]
        size += own.size * abs(student[at])
      }
      #expect(abs(Double(along[i]) - sum) <= tolerance * size, "\(form) row \(i)")
    }
  }

  /// Sums that need log-sum-exps: those of the divergence's gradients.
  @Test(arguments: [true, false]) func intraSumsOfARow(masked: Bool) {
    let (b, n) = (5, 11)
    let (c, r) = (Tensor<Double>.random(Shape(b, n), "c"), Tensor<Double>.random(Shape(b, n), "r"))
    let plain = Rows(c.doubles, r.doubles, b, n) { masked ? $0 : nil }
    func lse(_ products: [[Double]], _ scale: Double) -> Tensor<Double> {
      Tensor(Shape(b), (0..<b).map { plain.lse($0, products, scale, without: masked ? $0 : nil) })
    }
    for form in [IntraForm.jensenShannon, .pairs, .pairsWithGradient] {
      let vectors = (0..<4).map { _ in Tensor<Double>(Shape(b)) }
      let sums = (vectors[0], vectors[1], vectors[2], vectors[3])
      let tile = SimilarityTile(
        c, studentScale: Rows.studentScale, r, teacherScale: Rows.teacherScale, leavingOut: masked ? 0 : nil)
      intraSums(
        tile, studentLSE: lse(plain.student, Rows.studentScale), teacherLSE: lse(plain.teacher, Rows.teacherScale),
        form: form, into: sums)
      for i in 0..<b {
        var wanted = (0.0, 0.0, 0.0, 0.0)
        for (z, y) in zip(plain.logP[i], plain.logQ[i]) where z != -.infinity {
          let (p, q) = (exp(z), exp(y))
          let m = log((p + q) / 2)
          if form == .jensenShannon {
            wanted = (wanted.0 + p * (z - m), wanted.1 + q * (y - m), 0, 0)
          } else {
            let (gap, rising) = (abs(p - q), form == .pairs ? 0 : p > q ? p : -p)
            wanted.0 += form == .pairs ? gap * q : rising * q * (y - z) - gap * q
            wanted.1 += gap * q * (y - z)
            wanted.2 += gap
            wanted.3 += rising
          }
        }
        #expect(abs(sums.0[i] - wanted.0) < 1e-13 && abs(sums.1[i] - wanted.1) < 1e-13, "\(form) row \(i)")
        #expect(abs(sums.2[i] - wanted.2) < 1e-13 && abs(sums.3[i] - wanted.3) < 1e-13)
      }
    }
  }
}
