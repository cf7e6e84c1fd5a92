internal import RealModule
public import Tensor

/// The sum of weighted terms over a global batch, with gradients for this rank's raw features, the scales and the
/// terms' own parameters.
public final class Objective<S: Scalar> {
  /// The options of the next step. Weights may change between steps, but only those of declared terms.
  public var options: ObjectiveOptions
  /// True if the next step measures the gradient of each term, which changes no other number.
  public var measuresTermGradients = false
  private let parameters: ObjectiveParameters<S>
  private let others: [(width: Int, scale: S)]
  private let terms: [(key: String, needs: TermNeeds, term: any DistillationTerm<S>)]
  private let student = Modalities { UnitRows<S>() }
  /// The first teacher, and behind it those whose soft targets are averaged with its own; empty without a teacher.
  private let teachers: [Modalities<UnitRows<S>>]
  private let heads: Modalities<Head<S>>?
  /// The raw features of the step, if heads read them.
  private var raw: Modalities<Tensor<S>>?
  private let termGradients = TermGradients<S>()

  /// Declares the parameters that these options need.
  ///
  /// - Parameters:
  ///   - teacherWidth: the width of the teacher's embeddings; nil without a teacher.
  ///   - others: widths and scales β of further teachers. Terms that follow softmaxes follow the mean of all teachers'
  ///     softmaxes; terms that read embeddings read the first teacher's.
  public init(
    _ options: ObjectiveOptions, studentWidth: Int, teacherWidth: Int?, others: [(width: Int, scale: S)] = [],
    declaringIn store: ParameterStore<S>, tiles: Tiles<S> = Tiles()
  ) {
    precondition(teacherWidth != nil || !options.needsTeacher, "these terms need a teacher: \(options)")
    teachers = teacherWidth == nil ? [] : (0...others.count).map { _ in Modalities { UnitRows() } }
    let parameters = ObjectiveParameters(
      store, tiles: tiles, student: studentWidth, teacher: teacherWidth ?? studentWidth)
    (self.parameters, self.options, self.others) = (parameters, options, others)
    let width = parameters.teacherWidth
    func head(_ name: String) -> Head<S> { Head(parameters.linear(name, from: studentWidth, to: width)) }
    heads =
      options.needs.contains(.projection) && width != studentWidth
      ? Modalities(image: head("visual_proj"), text: head("text_proj")) : nil
    terms = options.declared.map { ($0.key, $0.needs, $0.term(parameters)) }
  }

  /// Returns memory for the teacher's unit rows [b, d] of this rank's `rows` in a global batch of `count`, which the
  /// caller fills before `accumulate`. Further teachers are numbered from 1.
  public func teacherRows(_ rows: Range<Int>, of count: Int, teacher index: Int = 0) -> (
    image: Tensor<S>, text: Tensor<S>
  ) {
    precondition(!teachers.isEmpty, "an objective without a teacher has no rows of one")
    let batch = LocalBatch(rows: rows, count: count)
    let width = index == 0 ? parameters.teacherWidth : others[index - 1].width
    for modality in teachers[index].both { modality.place(batch, width: width) }
    return (teachers[index].image.own, teachers[index].text.own)
  }

  /// Computes all terms for this rank's raw features [b, e]. Adds this rank's share to the gradients of the logit scale
  /// and of the terms' own parameters; the shares of all ranks sum to the gradient.
  ///
  /// - Parameters:
  ///   - rows: this rank's rows of the global batch of `count`.
  ///   - teacherScale: β = e^logit_scale of the teacher, the scale of its similarities; nil without a teacher.
  public func accumulate(
    image: Tensor<S>, text: Tensor<S>, rows: Range<Int>, count: Int, logitScale: Parameter<S>, teacherScale: S?,
    ranks: some Ranks<S>
  ) throws -> ObjectiveReport {
    precondition(image.columns == parameters.studentWidth && text.shape == image.shape && image.rows == rows.count)
    let batch = LocalBatch(rows: rows, count: count)
    let active = terms.filter { options.isActive($0.key) }
    let needs = active.reduce(into: TermNeeds()) { $0.formUnion($1.needs) }
    for (modality, raw) in [(student.image, image), (student.text, text)] {
      modality.place(batch, width: raw.columns)
      modality.normalize(raw)
    }
    for modality in student.both { try modality.gather(ranks) }
    let projected = try project(Modalities(image: image, text: text), needs, batch, ranks)
    let context = LossContext(
      options: options, batch: batch, ranks: ranks, student: student, projected: projected,
      teachers: try teachers(teacherScale, needs, batch, ranks), scale: S.exp(logitScale.value[0]),
      terms: Dictionary(uniqueKeysWithValues: active.map { ($0.key, $0.term) }))

    for (_, _, term) in active { try term.rowLosses(context) }
    for (key, _, term) in active {
      // λ/2N, as in a mean over both modalities.
      let weight = S(options.weight(of: key) / Double(2 * count))
      for rows in term.weights?.both ?? [] { rows.set(weight, batch) }
    }
    for (_, _, term) in active { try term.rowWeights(context) }
    var squares: [Double] = []
    let outcomes = try active.map { _, _, term in
      guard measuresTermGradients else { return try term.accumulate(context) }
      return try termGradients.measure(student, raw == nil ? nil : heads, appendingTo: &squares) {
        try term.accumulate(context)
      }
    }
    let scaleGradient = outcomes.reduce(0.0) { $0 + $1.scaleGradient }
    logitScale.gradient[0] += S(scaleGradient) * context.scale
    parameters.crossScale?.finish()

    let keys = zip(active, outcomes).filter { $1.share != nil }.map { $0.0.key }
    var sums = outcomes.compactMap(\.share)
    try ranks.allReduce(&sums)
    // Apart from the sums, whose bits could depend on how many numbers are reduced together.
    if measuresTermGradients { try ranks.allReduce(&squares) }
    let shared = zip(keys, sums).map { ObjectiveReport.Term(name: $0, weight: options.weight(of: $0), value: $1) }
    let all = shared + outcomes.flatMap(\.values)
    return ObjectiveReport(
      total: all.reduce(0) { $0 + ($1.weight == 0 ? 0 : $1.weight * $1.value) }, terms: all,
      anchors: outcomes.flatMap(\.anchors), notes: outcomes.flatMap(\.notes),
      gradients: zip(active, squares).map { .init(name: $0.key, norm: $1.squareRoot()) })
  }

  /// Returns all teachers, with the rows of all ranks gathered.
  private func teachers(
    _ scale: S?, _ needs: TermNeeds, _ batch: LocalBatch, _ ranks: some Ranks<S>
  ) throws -> [Teacher<S>] {
    guard needs.teacher else { return [] }
    guard let scale else { preconditionFailure("terms that need a teacher need its scale") }
    precondition(
      teachers.allSatisfy { $0.image.all.rows == batch.count }, "the teachers' rows of this batch are not there")
    for modality in teachers.flatMap(\.both) { try modality.gather(ranks) }
    return zip(teachers, [scale] + others.map(\.scale)).map { Teacher(rows: $0, scale: $1) }
  }

  /// Returns ũ and ṽ: the student's rows mapped by the heads, or the student's rows themselves if the widths agree.
  private func project(
    _ features: Modalities<Tensor<S>>, _ needs: TermNeeds, _ batch: LocalBatch, _ ranks: some Ranks<S>
  ) throws -> Modalities<UnitRows<S>> {
    raw = nil
    guard needs.contains(.projection) else { return student }
    guard let heads else {
      precondition(
        parameters.teacherWidth == parameters.studentWidth,
        "a term that needs heads became used without having been declared")
      return student
    }
    raw = features
    let isGlobal = needs.contains(.globalProjection)
    for modality in Modality.allCases { heads[modality].forward(features[modality], batch, alone: !isGlobal) }
    let rows = heads.map(\.rows)
    if isGlobal { for modality in rows.both { try modality.gather(ranks) } }
    return rows
  }

  /// Returns the gradients with respect to the raw features [b, e] of the last `accumulate`. Call it once for each
  /// `accumulate`.
  public func rawGradients() -> (image: Tensor<S>, text: Tensor<S>) {
    let gradients = student.map { $0.rawGradient() }
    if let heads, let raw {
      for modality in Modality.allCases { heads[modality].backward(raw[modality], addingTo: gradients[modality]) }
    }
    return (gradients.image, gradients.text)
  }
}

/// The values of an objective in one step, the same on every rank.
public struct ObjectiveReport: Equatable, Sendable {
  /// A term's value and weight in the step.
  public struct Term: Equatable, Sendable {
    /// The term's key; the intra-modal term has the two names `intra_image` and `intra_text`.
    public var name: String
    /// λ; 0 for a term that only weighs the anchors of another.
    public var weight: Double
    /// The value without its weight.
    public var value: Double

    public init(name: String, weight: Double, value: Double) {
      (self.name, self.weight, self.value) = (name, weight, value)
    }
  }

  /// Statistics of one modality's anchors: their divergences D, and their weights as multiples of 1/N.
  public struct Anchors: Equatable, Sendable {
    public var name: String
    public var divergenceMean: Double
    public var divergenceDeviation: Double
    public var weightMean: Double
    public var weightDeviation: Double
    /// The modality's learned scale, as it multiplied similarities in the step; nil if it has none.
    public var scale: Double?
  }

  /// The norm of one term's gradient with respect to the student's unit embeddings, as `TermGradients` measures it,
  /// with its weight. The gradient that flows through row weights counts for the term whose losses weigh the rows.
  public struct Gradient: Equatable, Sendable {
    public var name: String
    public var norm: Double
  }

  /// Σ weight · value.
  public var total: Double
  public var terms: [Term]
  public var anchors: [Anchors] = []
  /// Messages to the user, the same in every step.
  public var notes: [String] = []
  /// The gradients of the active terms; empty if the step did not measure them.
  public var gradients: [Gradient] = []
}
