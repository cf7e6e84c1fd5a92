import Foundation
import Model
import Tensor
import TestSupport

/// The values of all terms from whole N × N matrices, as their formulas are written, in Double.
struct PlainObjective {
  typealias Matrix = [[Double]]
  let u, v: Matrix
  /// Of each teacher, the first one leading.
  let x, y: [Matrix]
  /// The student's rows in the teacher's width.
  let projected: (image: Matrix, text: Matrix)
  let alpha: Double
  let betas: [Double]
  let own: [String: [Double]]

  /// Raw student rows, the teacher's unit rows, and the values of the objective's own parameters.
  init(_ scene: ObjectiveScene<Double>) {
    func rows(_ x: [Double], _ width: Int) -> Matrix {
      stride(from: 0, to: x.count, by: width).map { Array(x[$0..<$0 + width]) }
    }
    let width = scene.image.columns
    let (image, text) = (rows(scene.image.doubles, width), rows(scene.text.doubles, width))
    (u, v) = (image.map(Self.unit), text.map(Self.unit))
    x = scene.teachers.map { rows($0.image.doubles, $0.image.columns) }
    y = scene.teachers.map { rows($0.text.doubles, $0.text.columns) }
    alpha = exp(scene.logitScale)
    betas = scene.teachers.map { exp($0.logitScale) }
    let own = scene.parameters.mapValues(\.doubles)
    self.own = own
    func head(_ raw: Matrix, _ name: String) -> Matrix {
      guard let weight = own["objective.\(name).weight"], let bias = own["objective.\(name).bias"] else {
        return raw.map(Self.unit)
      }
      return raw.map { Self.unit(Self.affine(rows(weight, width), bias, $0)) }
    }
    projected = (head(image, "visual_proj"), head(text, "text_proj"))
  }

  private static func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
  private static func unit(_ x: [Double]) -> [Double] { x.map { $0 / dot(x, x).squareRoot() } }
  private static func affine(_ weight: Matrix, _ bias: [Double], _ x: [Double]) -> [Double] {
    zip(weight, bias).map { dot($0, x) + $1 }
  }
  private static func logits(_ a: Matrix, _ b: Matrix, _ scale: Double) -> Matrix {
    a.map { row in b.map { scale * dot(row, $0) } }
  }
  private static func transposed(_ z: Matrix) -> Matrix { z[0].indices.map { j in z.map { $0[j] } } }

  /// ln softmax along each row; a candidate that is left out has −∞.
  private static func logSoftmax(_ z: Matrix, masked: Bool = false) -> Matrix {
    z.enumerated().map { i, row in
      let row = row.enumerated().map { masked && $0 == i ? -Double.infinity : $1 }
      let largest = row.max() ?? 0
      let lse = largest + log(row.reduce(0) { $0 + exp($1 - largest) })
      return row.map { $0 - lse }
    }
  }

  /// Of each row −ln p_ii.
  private static func crossEntropies(_ z: Matrix) -> [Double] {
    logSoftmax(z).enumerated().map { -$1[$0] }
  }

  /// Of each row Σ q (ln q − ln p) over the candidates.
  private static func divergences(_ q: Matrix, _ p: Matrix) -> [Double] {
    zip(q, p).map { zip($0, $1).reduce(0) { $1.0 == -.infinity ? $0 : $0 + exp($1.0) * ($1.0 - $1.1) } }
  }

  private static func mean(_ x: [Double]) -> Double { x.reduce(0, +) / Double(x.count) }

  private var student: Matrix { Self.logits(u, v, alpha) }
  /// ln of the mean of the teachers' softmaxes, of images over captions; or of captions over images.
  private func targets(_ fixed: Double? = nil, ofCaptions: Bool = false) -> Matrix {
    Self.logMean(
      zip(zip(x, y), betas).map { rows, beta in
        let z = Self.logits(rows.0, rows.1, fixed ?? beta)
        return Self.logSoftmax(ofCaptions ? Self.transposed(z) : z)
      })
  }
  private static func logMean(_ logs: [Matrix]) -> Matrix {
    logs[0].indices.map { i in
      logs[0][i].indices.map { j in log(logs.reduce(0) { $0 + exp($1[i][j]) } / Double(logs.count)) }
    }
  }
  private func bothWays(_ rows: (Matrix) -> [Double], _ z: Matrix, _ factors: Factors? = nil) -> Double {
    (Self.mean(rows(z), factors?.image) + Self.mean(rows(Self.transposed(z)), factors?.text)) / 2
  }
  /// The mean over both modalities of what rows of targets and of the student's logits come to.
  private func bothWays(
    _ rows: (Matrix, Matrix) -> [Double], fixed: Double? = nil, _ z: Matrix, _ back: Matrix, _ factors: Factors? = nil
  ) -> Double {
    (Self.mean(rows(targets(fixed), Self.logSoftmax(z)), factors?.image)
      + Self.mean(rows(targets(fixed, ofCaptions: true), Self.logSoftmax(back)), factors?.text)) / 2
  }
  private static func mean(_ x: [Double], _ factors: [Double]?) -> Double {
    mean(factors.map { zip(x, $0).map(*) } ?? x)
  }

  /// Weighted sum of all terms. Weights without gradient are those of `base`, if it is given.
  func total(_ options: ObjectiveOptions, holding base: PlainObjective? = nil) -> Double {
    func used(_ weight: Double, _ value: () -> Double) -> Double { weight == 0 ? 0 : weight * value() }
    let held = base ?? self
    return used(options.clip) {
      bothWays(Self.crossEntropies, student, held.factors(.clip, options))
    }
      + used(options.crd) {
        bothWays(Self.divergences, student, Self.transposed(student), held.factors(.crd, options))
      }
      + used(options.affinity) {
        let z = Self.logits(u, v, options.affinityScale ?? alpha)
        return bothWays(
          { q, p in zip(q, p).map { zip($0, $1).reduce(0) { $0 - exp($1.0) * $1.1 } } },
          fixed: options.affinityScale, z, Self.transposed(z))
      } + used(options.fd) { fd(held.factors(.fd, options)) }
      + used(options.icl) {
        let scale = gamma(options)
        return
          (Self.mean(Self.crossEntropies(Self.logits(projected.image, y[0], scale)))
          + Self.mean(Self.crossEntropies(Self.logits(projected.text, x[0], scale)))) / 2
      }
      + used(options.crossKD) {
        let scale = gamma(options)
        return bothWays(
          Self.divergences, Self.logits(projected.image, y[0], scale), Self.logits(projected.text, x[0], scale))
      } + used(options.gd) { gd(options) } + used(options.afd) { afd }
      + used(options.intra) { intra(options, holding: held) }
      + used(options.rkd) { rkd(u, x[0], options.rkdBeta) + rkd(v, y[0], options.rkdBeta) }
      + used(options.siglip) { siglip } + used(options.gram) { gram(options.gramWeights, holding: held) }
  }

  /// The difference of the cosines, for pairs of different rows.
  func cosineGaps(_ isImage: Bool) -> [Double] {
    let (a, b) = isImage ? (u, x[0]) : (v, y[0])
    return a.indices.flatMap { i in
      a.indices.filter { $0 != i }.map { Self.dot(a[i], a[$0]) - Self.dot(b[i], b[$0]) }
    }
  }

  private func gram(_ weights: GramWeights, holding held: PlainObjective) -> Double {
    [true, false].reduce(0.0) { sum, isImage in
      let gaps = cosineGaps(isImage)
      let sizes = (weights == .difference ? gaps : held.cosineGaps(isImage)).map { weights == .uniform ? 1 : abs($0) }
      return sum + zip(gaps, sizes).reduce(0) { $0 + $1.0 * $1.0 * $1.1 } / sizes.reduce(0, +)
    }
  }

  private var siglip: Double {
    let bias = own["logit_bias"]?[0] ?? .nan
    var sum = 0.0
    for (i, row) in student.enumerated() {
      for (j, product) in row.enumerated() {
        let logit = product + bias
        sum += log(1 + exp(i == j ? -logit : logit))
      }
    }
    return sum / Double(u.count)
  }

  private func rkd(_ student: Matrix, _ teacher: Matrix, _ beta: Double) -> Double {
    func distance(_ a: [Double], _ b: [Double]) -> Double {
      let square: Double = zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      // Rows that are equal but for rounding.
      return square < 1e-14 ? 0 : square.squareRoot()
    }
    func distances(_ rows: Matrix) -> [Double] {
      let all: [Double] = rows.flatMap { row in rows.map { distance(row, $0) } }
      let mean = Self.mean(all.filter { $0 > 0 })
      return all.map { $0 / mean }
    }
    return Self.mean(
      zip(distances(student), distances(teacher)).map {
        let error = abs($0 - $1)
        return error < beta ? error * error / (2 * beta) : error - beta / 2
      })
  }

  private func gamma(_ options: ObjectiveOptions) -> Double {
    let value = own["objective.cross_logit_scale"]?[0] ?? .nan
    return options.iclScale == .raw ? value : exp(value)
  }

  private func fd(_ factors: Factors?) -> Double {
    func squares(_ a: Matrix, _ b: Matrix) -> [Double] {
      zip(a, b).map { Self.mean(zip($0, $1).map { ($0 - $1) * ($0 - $1) }) }
    }
    return Self.mean(squares(projected.image, x[0]), factors?.image)
      + Self.mean(squares(projected.text, y[0]), factors?.text)
  }

  private var afd: Double {
    func fused(_ a: Matrix, _ b: Matrix, _ name: String) -> Matrix {
      let (weight, bias) = (own["objective.\(name).weight"] ?? [], own["objective.\(name).bias"] ?? [])
      let inputs = a[0].count + b[0].count
      let rows = stride(from: 0, to: weight.count, by: inputs).map { Array(weight[$0..<$0 + inputs]) }
      return zip(a, b).map { Self.unit(Self.affine(rows, bias, $0 + $1)) }
    }
    let z = Self.logits(
      fused(u, x[0], "visual_fusion_proj"), fused(v, y[0], "text_fusion_proj"),
      own["objective.fusion_logit_scale"]?[0] ?? .nan)
    return bothWays(Self.crossEntropies, z)
  }

  private func gd(_ options: ObjectiveOptions) -> Double {
    func gradients(_ anchors: Matrix, _ keys: Matrix, _ scale: Double) -> [Double] {
      let s = options.gdScale == .reciprocal ? 1 / scale : scale
      let n = Double(anchors.count)
      let residual = Self.logSoftmax(Self.logits(anchors, keys, s)).enumerated().map { i, row in
        row.enumerated().map { exp($1) - ($0 == i ? 1 : 0) }
      }
      func product(_ m: Matrix, _ rows: Matrix) -> [Double] {
        m.flatMap { weights in
          rows[0].indices.map { c in s / n * zip(weights, rows).reduce(0) { $0 + $1.0 * $1.1[c] } }
        }
      }
      return product(residual, keys) + product(Self.transposed(residual), anchors)
    }
    func distance(_ a: [Double], _ b: [Double]) -> Double {
      // Anchors' and keys' gradients are each a mean over N d entries.
      zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / Double(a.count / 2)
    }
    return distance(gradients(projected.image, projected.text, alpha), gradients(x[0], y[0], betas[0]))
      + distance(gradients(projected.text, projected.image, alpha), gradients(y[0], x[0], betas[0]))
  }

  // MARK: the intra-modal term

  /// One number for each image and for each caption.
  typealias Factors = (image: [Double], text: [Double])

  private func intra(_ options: ObjectiveOptions, holding held: PlainObjective) -> Double {
    let o = options.intraOptions
    let used = [(o.image, true), (o.text, false)].filter { $0.0 != 0 }
    let means = used.map { Self.mean(divergence($0.1, o)) }
    let weighing = o.weightGradient ? self : held
    return zip(used, means).reduce(0) { sum, side in
      let ((mu, isImage), mean) = side
      switch o.granularity {
      case .modality: return sum + mu * mean * mean / means.reduce(0, +)
      case .pair: return sum + mu * pairs(isImage, o, weighing.pairWeights(isImage, o))
      case .row:
        let d = divergence(isImage, o)
        let isWeighed = o.multiplies.contains(.intra)
        return sum + mu * (isWeighed ? Self.dot(weighing.anchorWeights(isImage, o), d) : mean)
      }
    }
  }

  /// The factors of another term's rows; nil if the anchors' weights do not multiply them.
  private func factors(_ term: IntraOptions.Multiplied, _ options: ObjectiveOptions) -> Factors? {
    let o = options.intraOptions
    guard options.intra != 0, o.multiplies.contains(term), u.count > 2 || o.diagonal == .keep else { return nil }
    func multiples(_ mu: Double, _ isImage: Bool) -> [Double] {
      let w = anchorWeights(isImage, o)
      return w.map { mu == 0 ? 1 : $0 / Self.mean(w) }
    }
    return (multiples(o.image, true), multiples(o.text, false))
  }

  private func anchorWeights(_ isImage: Bool, _ o: IntraOptions) -> [Double] {
    let cross = isImage ? student : Self.transposed(student)
    let a: [Double]
    switch o.source {
    case .intraKL: a = divergence(isImage, o)
    case .clip: a = Self.crossEntropies(cross)
    case .crossKL: a = Self.divergences(targets(ofCaptions: !isImage), Self.logSoftmax(cross))
    }
    let n = Double(a.count)
    func shares(_ x: [Double]) -> [Double] { x.map { $0 / x.reduce(0, +) } }
    switch o.weighting {
    case .uniform: return a.map { _ in 1 / n }
    case .sum: return shares(a)
    case .raw: return a.map { $0 / n }
    case .softmax: return shares(a.map { exp($0 / o.softmaxTemperature) })
    case .expsat: return a.map { (1 - exp(-$0)) / n }
    case .onePlus: return a.map { (1 + $0) / n }
    case .inverse: return shares(a.map { 1 / ($0 + o.inverseEpsilon) })
    }
  }

  /// ln p of the student and ln q of the teachers within a modality.
  func softmaxes(_ isImage: Bool, _ o: IntraOptions) -> (p: Matrix, q: Matrix) {
    let (student, teachers) = isImage ? (u, x) : (v, y)
    let (s, t): (Double, [Double])
    switch o.temperature {
    case .ownScales, .ownDetached: (s, t) = (alpha, betas)
    case .teacherScaleBoth: (s, t) = (betas[0], betas)
    case .fixedTau: (s, t) = (1 / o.tau, betas.map { _ in 1 / o.tau })
    case .learned:
      func form(_ a: Double) -> Double { o.learnedScale == .raw ? a : exp(a) }
      let a = own["objective.intra_\(isImage ? "image" : "text")_logit_scale"]?[0] ?? .nan
      (s, t) = (form(a), o.learnedTeacher == .own ? betas : betas.map { _ in form(log(1 / 0.07)) })
    }
    return (
      Self.logSoftmax(Self.logits(student, student, s), masked: o.diagonal == .mask),
      Self.logMean(
        zip(teachers, t).map { Self.logSoftmax(Self.logits($0, $0, $1), masked: o.diagonal == .mask) })
    )
  }

  private func divergence(_ isImage: Bool, _ o: IntraOptions) -> [Double] {
    let (p, q) = softmaxes(isImage, o)
    switch o.divergence {
    case .forward: return Self.divergences(q, p)
    case .reverse: return Self.divergences(p, q)
    case .jensenShannon:
      let m = zip(p, q).map { zip($0, $1).map { log((exp($0) + exp($1)) / 2) } }
      return zip(Self.divergences(p, m), Self.divergences(q, m)).map { ($0 + $1) / 2 }
    }
  }

  /// p − q of every pair.
  func probabilityGaps(_ isImage: Bool, _ o: IntraOptions) -> Matrix {
    let (p, q) = softmaxes(isImage, o)
    return zip(p, q).map { zip($0, $1).map { exp($0) - exp($1) } }
  }

  /// |p − q| over its sum, or over N times that of its row.
  private func pairWeights(_ isImage: Bool, _ o: IntraOptions) -> Matrix {
    let t = probabilityGaps(isImage, o).map { $0.map { abs($0) } }
    let all = t.joined().reduce(0, +)
    return t.map { row in
      row.map { $0 / (o.pairTotal == .all ? all : Double(t.count) * row.reduce(0, +)) }
    }
  }

  /// N Σ w q ln(q/p).
  private func pairs(_ isImage: Bool, _ o: IntraOptions, _ weights: Matrix) -> Double {
    let (p, q) = softmaxes(isImage, o)
    var sum = 0.0
    for i in p.indices {
      for j in p.indices where q[i][j] != -.infinity { sum += weights[i][j] * exp(q[i][j]) * (q[i][j] - p[i][j]) }
    }
    return Double(p.count) * sum
  }
}
