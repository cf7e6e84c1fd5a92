internal import RealModule
public import Tensor

/// The sum of weighted terms over a global batch, with gradients for this rank's raw features and for the parameters
/// that terms have of their own.
///
/// Those parameters (heads between widths, learned scales) are declared in the student's store under the prefix
/// `objective.`, so that they are reduced, updated, saved and resumed like any other.
public final class Objective<S: Scalar> {
  /// Prefix of the names of the objective's own parameters, which are no part of the model.
  public static var prefix: String { "objective." }

  /// May change between steps, as schedules ask; only terms for which parameters were declared may become used.
  public var options: ObjectiveOptions

  private let studentWidth: Int
  private let teacherWidth: Int?
  private let others: [(width: Int, scale: S)]
  private let student = Modalities(image: UnitRows<S>(), text: UnitRows<S>())
  /// The first teacher, and those whose soft targets are averaged with its.
  private let teachers: [Modalities<UnitRows<S>>]
  private let heads: Modalities<Head<S>>?
  private let crossScale: Parameter<S>?

  private let clip: Contrastive<S>
  private let crd: CRD<S>
  private let icl: ICL<S>
  private let crossKD: CrossKD<S>
  private let gd: GD<S>
  private let afd: AFD<S>?
  private let affinity: Affinity<S>
  private let intra: IntraTerm<S>
  private let clipWeights = Modalities(image: RowVector<S>(), text: RowVector<S>())
  private let crdWeights = Modalities(image: RowVector<S>(), text: RowVector<S>())
  private var raw: Modalities<Tensor<S>>?

  /// Declares the parameters that these options need.
  ///
  /// - Parameters:
  ///   - teacherWidth: nil where there is no teacher.
  ///   - others: widths and scales β of further teachers. Terms that follow softmaxes (crd, affinity, intra, cross_kd)
  ///     follow the mean of all teachers' softmaxes, those that look at embeddings the first teacher's.
  ///   - tiles: the pieces in which similarities are computed.
  public init(
    _ options: ObjectiveOptions, studentWidth: Int, teacherWidth: Int?, others: [(width: Int, scale: S)] = [],
    declaringIn store: ParameterStore<S>, tiles: Tiles<S> = Tiles()
  ) {
    precondition(teacherWidth != nil || !options.needsTeacher, "these terms need a teacher: \(options)")
    self.options = options
    self.studentWidth = studentWidth
    self.teacherWidth = teacherWidth
    self.others = others
    teachers = (0...others.count).map { _ in Modalities(image: UnitRows(), text: UnitRows()) }
    let width = teacherWidth ?? studentWidth
    // CLIP-KD starts every scale where CLIP starts its own, and uses these as they are.
    let scale = Initial.constant(Double.log(1 / 0.07))
    if options.usesHeads && width != studentWidth {
      heads = Modalities(
        image: Head(store, name: "\(Self.prefix)visual_proj", from: studentWidth, to: width),
        text: Head(store, name: "\(Self.prefix)text_proj", from: studentWidth, to: width))
    } else {
      heads = nil
    }
    crossScale =
      options.icl != 0 || options.crossKD != 0
      ? store.declare("\(Self.prefix)cross_logit_scale", Shape(), scale) : nil
    afd =
      options.afd != 0
      ? AFD(tiles, store, prefix: Self.prefix, student: studentWidth, teacher: width, scale: scale) : nil
    clip = Contrastive(tiles)
    crd = CRD(tiles)
    icl = ICL(tiles)
    crossKD = CrossKD(tiles)
    gd = GD(tiles)
    affinity = Affinity(tiles)
    intra = IntraTerm(tiles)
  }

  /// Room for the teacher's unit rows [b, d] of this rank's `rows` of a global batch of `count`, for the caller to fill
  /// before `accumulate`; of a further teacher with its number, from 1.
  public func teacherRows(_ rows: Range<Int>, of count: Int, teacher index: Int = 0) -> (
    image: Tensor<S>, text: Tensor<S>
  ) {
    guard let teacherWidth else { preconditionFailure("an objective without a teacher has no rows of one") }
    let share = BatchShare(rows: rows, count: count)
    let width = index == 0 ? teacherWidth : others[index - 1].width
    let teacher = teachers[index]
    teacher.image.place(share, width: width)
    teacher.text.place(share, width: width)
    return (teacher.image.own, teacher.text.own)
  }

  /// Computes all terms for this rank's raw features [b, e]. Adds to the gradients of the logit scale and of the
  /// objective's own parameters this rank's share (shares sum over the ranks).
  ///
  /// - Parameters:
  ///   - rows: this rank's rows of the global batch of `count`.
  ///   - teacherScale: β, what the teacher's similarities are multiplied by (e^logit_scale); nil without a teacher.
  public func accumulate(
    image: Tensor<S>, text: Tensor<S>, rows: Range<Int>, count: Int, logitScale: Parameter<S>, teacherScale: S?,
    ranks: some Ranks<S>
  ) throws -> ObjectiveReport {
    precondition(image.columns == studentWidth && text.shape == image.shape && image.rows == rows.count)
    let share = BatchShare(rows: rows, count: count)
    raw = Modalities(image: image, text: text)
    student.image.normalize(image, share)
    student.text.normalize(text, share)
    for modality in [student.image, student.text] { try modality.gather(ranks) }
    if options.needsTeacher {
      guard let teacherScale else { preconditionFailure("terms that need a teacher need its scale") }
      precondition(teachers.allSatisfy { $0.image.all.rows == count }, "the teachers' rows of this batch are not there")
      for teacher in teachers {
        for modality in [teacher.image, teacher.text] { try modality.gather(ranks) }
      }
      return try accumulate(share, logitScale, teacherScale, ranks)
    }
    return try accumulate(share, logitScale, 1, ranks)
  }

  private func accumulate(
    _ share: BatchShare, _ logitScale: Parameter<S>, _ beta: S, _ ranks: some Ranks<S>
  ) throws -> ObjectiveReport {
    let alpha = S.exp(logitScale.value[0])
    let taught = zip(teachers, [beta] + others.map(\.scale)).map { Taught(rows: $0, scale: $1) }
    var sums = TermSums()
    // With respect to α itself.
    var slope = 0.0
    var notes: [String] = []

    // First passes of the terms whose rows may weigh anchors.
    let source = options.intra != 0 && options.intraOptions.granularity == .row ? weightSource : .intraKL
    let usesCLIP = options.clip != 0 || source == .clip
    let usesCRD = options.crd != 0 || source == .crossKL
    if usesCLIP {
      sums.add("clip", options.clip, try clip.measure(student, scale: alpha, share, ranks))
      clipWeights.image.set(S(options.clip / Double(2 * share.count)), share)
      clipWeights.text.set(S(options.clip / Double(2 * share.count)), share)
    }
    if usesCRD {
      sums.add("crd", options.crd, try crd.measure(student, scale: alpha, taught, share, ranks))
      crdWeights.image.set(S(options.crd / Double(2 * share.count)), share)
      crdWeights.text.set(S(options.crd / Double(2 * share.count)), share)
    }

    var anchors: [ObjectiveReport.Anchors] = []
    var intraValues: Modalities<Double>?
    if options.intra != 0 {
      if options.intraOptions.diagonal == .mask && share.count < 3 {
        notes.append(
          "intra: a batch of \(share.count) leaves an anchor fewer than two candidates: value and gradient are 0")
        intraValues = Modalities(image: 0, text: 0)
      } else {
        let (scale, targets) = intraScales(alpha, taught)
        let sources: Modalities<Tensor<S>>? =
          source == .clip ? clip.own : source == .crossKL ? crd.own : nil
        let outcome = try intra.accumulate(
          student, scale: scale, targets, options.intraOptions, weight: options.intra, sources: sources, share, ranks)
        intraValues = outcome.values
        anchors = outcome.anchors
        if options.intraOptions.temperature == .ownScales { slope += outcome.slope }
        if let slopes = outcome.sources {
          try add(slopes, to: source == .clip ? clipWeights : crdWeights, ranks)
        }
      }
    }

    // Second passes, and the terms that stand alone.
    if usesCLIP { slope += clip.accumulate(student, scale: alpha, weights: clipWeights) }
    if usesCRD { slope += crd.accumulate(student, scale: alpha, weights: crdWeights) }
    if options.affinity != 0 {
      let fixed = options.affinityScale.map { S($0) }
      let found = try affinity.accumulate(
        student, scale: fixed ?? alpha, taught.scaled(fixed), weight: options.affinity, share, ranks)
      sums.add("affinity", options.affinity, found.value)
      if options.affinityScale == nil { slope += found.slope }
    }
    if options.usesHeads { slope += try accumulateProjected(share, alpha, taught, &sums, ranks) }
    if options.afd != 0 {
      guard let afd else { preconditionFailure("afd became used without having been declared") }
      sums.add("afd", options.afd, try afd.accumulate(student, teachers[0], weight: options.afd, share, ranks))
    }
    logitScale.gradient[0] += S(slope) * alpha

    try sums.reduce(ranks)
    var report = ObjectiveReport(total: 0, terms: sums.terms, anchors: anchors, notes: notes)
    if let intraValues {
      let weights = options.intraOptions
      if weights.image != 0 {
        report.terms.append(.init(name: "intra_image", weight: options.intra * weights.image, value: intraValues.image))
      }
      if weights.text != 0 {
        report.terms.append(.init(name: "intra_text", weight: options.intra * weights.text, value: intraValues.text))
      }
    }
    report.total = report.terms.reduce(0) { $0 + ($1.weight == 0 ? 0 : $1.weight * $1.value) }
    return report
  }

  /// The terms that see the student's rows in the teacher's width; returns this rank's share of the gradient of α.
  private func accumulateProjected(
    _ share: BatchShare, _ alpha: S, _ taught: [Taught<S>], _ sums: inout TermSums, _ ranks: some Ranks<S>
  ) throws -> Double {
    var slope = 0.0
    let teacher = teachers[0]
    let projected = try project(share, ranks)
    if options.fd != 0 {
      sums.add("fd", options.fd, FD.accumulate(projected, teacher, weight: options.fd, share))
    }
    if options.icl != 0 || options.crossKD != 0 {
      guard let crossScale else { preconditionFailure("icl or cross_kd became used without having been declared") }
      let parameter = crossScale.value[0]
      let gamma = options.iclScale == .raw ? parameter : S.exp(parameter)
      var gammaSlope = 0.0
      if options.icl != 0 {
        let found = icl.accumulate(projected, teacher, scale: gamma, weight: options.icl, share)
        sums.add("icl", options.icl, found.value)
        gammaSlope += found.slope
      }
      if options.crossKD != 0 {
        let found = crossKD.accumulate(
          projected, scale: gamma, taught, weight: options.crossKD, share)
        sums.add("cross_kd", options.crossKD, found.value)
        gammaSlope += found.slope
      }
      crossScale.gradient[0] += S(gammaSlope) * (options.iclScale == .raw ? 1 : gamma)
    }
    if options.gd != 0 {
      let isReciprocal = options.gdScale == .reciprocal
      let beta = taught[0].scale
      let scales = Scales(student: isReciprocal ? 1 / alpha : alpha, teacher: isReciprocal ? 1 / beta : beta)
      let found = try gd.accumulate(projected, teacher, scales: scales, weight: options.gd, share, ranks)
      sums.add("gd", options.gd, found.value)
      slope += isReciprocal ? -found.slope * Double(scales.student * scales.student) : found.slope
    }
    return slope
  }

  /// ũ and ṽ: the student's rows through the heads, or as they are where the widths agree.
  private func project(_ share: BatchShare, _ ranks: some Ranks<S>) throws -> Modalities<UnitRows<S>> {
    guard let heads, let raw else {
      precondition(teacherWidth == studentWidth, "a term that needs heads became used without having been declared")
      return student
    }
    // Only GD wants everybody's.
    heads.image.forward(raw.image, share, alone: options.gd == 0)
    heads.text.forward(raw.text, share, alone: options.gd == 0)
    if options.gd != 0 { for head in [heads.image, heads.text] { try head.rows.gather(ranks) } }
    return Modalities(image: heads.image.rows, text: heads.text.rows)
  }

  /// The gradients with respect to the raw features [b, e] of the last `accumulate`; called once.
  public func rawGradients() -> (image: Tensor<S>, text: Tensor<S>) {
    let result = (image: student.image.rawGradient(), text: student.text.rawGradient())
    if let heads, let raw, options.usesHeads {
      heads.image.backward(raw.image, addingTo: result.image)
      heads.text.backward(raw.text, addingTo: result.text)
    }
    return result
  }

  /// Where weights come from; uniform ones need no source.
  private var weightSource: IntraOptions.Source {
    options.intraOptions.weighting == .uniform ? .intraKL : options.intraOptions.source
  }

  /// What the student's similarities within a modality are multiplied by, and the teachers with what theirs are.
  private func intraScales(_ alpha: S, _ taught: [Taught<S>]) -> (S, [Taught<S>]) {
    switch options.intraOptions.temperature {
    case .ownScales, .ownDetached: return (alpha, taught)
    case .teacherScaleBoth: return (taught[0].scale, taught)
    case .fixedTau:
      let scale = S(1 / options.intraOptions.tau)
      return (scale, taught.scaled(scale))
    }
  }

  /// weights += slopes of own rows, on all ranks.
  private func add(
    _ slopes: Modalities<[Double]>, to weights: Modalities<RowVector<S>>, _ ranks: some Ranks<S>
  ) throws {
    for (vector, numbers) in [(weights.image, slopes.image), (weights.text, slopes.text)] {
      for (i, number) in numbers.enumerated() { vector.own[i] += S(number) }
      try vector.gather(ranks)
    }
  }
}

extension ObjectiveOptions {
  /// Whether any term sees the student's rows in the teacher's width.
  var usesHeads: Bool { [fd, icl, crossKD, gd].contains { $0 != 0 } }
}

/// The values of terms, each rank's shares until they are summed in one go.
private struct TermSums {
  private(set) var terms: [ObjectiveReport.Term] = []

  mutating func add(_ name: String, _ weight: Double, _ share: Double) {
    terms.append(.init(name: name, weight: weight, value: share))
  }

  mutating func reduce<S>(_ ranks: some Ranks<S>) throws {
    var values = terms.map(\.value)
    try ranks.sum(&values)
    for (index, value) in values.enumerated() { terms[index].value = value }
  }
}
