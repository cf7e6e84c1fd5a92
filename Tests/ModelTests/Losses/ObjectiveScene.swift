import Foundation
import Model
import Tensor
import TestSupport

/// Raw student features, the teacher's unit rows and both scales, from which an objective is computed on one rank or on
/// several.
struct ObjectiveScene<S: Scalar> {
  var image: Tensor<S>
  var text: Tensor<S>
  var teacherImage: Tensor<S>
  var teacherText: Tensor<S>
  /// The logarithms.
  var logitScale = 1.2
  /// Teachers beside the first.
  var others: [Teacher] = []
  var teacherLogitScale = 1.6
  /// Small tiles, so that a batch has several of them in both directions.
  var tile = (rows: 4, columns: 5)
  /// True to measure the gradients of the terms.
  var measuresTermGradients = false
  /// Values of the objective's own parameters; others are drawn.
  var parameters: [String: Tensor<S>] = [:]

  struct Teacher {
    var image: Tensor<S>
    var text: Tensor<S>
    var logitScale: Double
  }

  /// All teachers, the first one leading.
  var teachers: [Teacher] {
    [Teacher(image: teacherImage, text: teacherText, logitScale: teacherLogitScale)] + others
  }

  /// Adds a teacher of so many numbers, with another scale than those before.
  mutating func add(teacher width: Int) {
    let name = "teacher \(others.count + 2)"
    others.append(
      Teacher(
        image: Self.unit(.random(Shape(count, width), "\(name) image")),
        text: Self.unit(.random(Shape(count, width), "\(name) text")), logitScale: 0.9 + 0.8 * Double(others.count)))
  }

  /// Value, gradients and report.
  struct Outcome {
    var report: ObjectiveReport
    var image: [Double]
    var text: [Double]
    var logitScale: Double
    var own: [String: [Double]]

    var total: Double { report.total }

    func value(_ term: String) -> Double? { report.terms.first { $0.name == term }?.value }

    /// Everything there is, by name.
    var parts: [(name: String, numbers: [Double])] {
      [("total", [total]), ("image", image), ("text", text), ("logit scale", [logitScale])]
        + report.terms.map { ($0.name, [$0.value]) }
        + report.anchors.map {
          ("\($0.name) anchors", [$0.divergenceMean, $0.divergenceDeviation, $0.weightMean, $0.weightDeviation])
        } + own.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }
  }

  init(pairs n: Int, student: Int, teacher: Int) {
    image = .random(Shape(n, student), "image", bound: 3)
    text = .random(Shape(n, student), "text", bound: 3)
    teacherImage = Self.unit(.random(Shape(n, teacher), "teacher image"))
    teacherText = Self.unit(.random(Shape(n, teacher), "teacher text"))
  }

  static func unit(_ x: Tensor<S>) -> Tensor<S> {
    let y = Tensor<S>(x.shape)
    normalizeRows(x, into: y, reciprocal: Tensor(Shape(x.rows)))
    return y
  }

  var count: Int { image.rows }

  func run(_ options: ObjectiveOptions) throws -> Outcome { try run(options, 0..<count, SingleRank()) }

  /// `rows` are this rank's.
  func run(_ options: ObjectiveOptions, _ rows: Range<Int>, _ ranks: some Ranks<S>) throws -> Outcome {
    let store = ParameterStore<S>()
    let scale = store.declare("logit_scale", Shape(), .constant(logitScale))
    let objective = Objective(
      options, studentWidth: image.columns, teacherWidth: teacherImage.columns,
      others: others.map { ($0.image.columns, S(Foundation.exp($0.logitScale))) }, declaringIn: store,
      tiles: Tiles(rows: tile.rows, columns: tile.columns))
    objective.measuresTermGradients = measuresTermGradients
    store.allocate(gradients: true)
    store.initialize(seed: 3)
    // The terms' parameters: the objective's own, and the model's logit bias.
    let own = store.entries.filter { $0.name != "logit_scale" }
    for entry in own {
      guard let value = parameters[entry.name] else { continue }
      copy(value.reshaped(entry.shape), into: store.value(of: entry))
    }
    for (index, teacher) in teachers.enumerated() {
      let taught = objective.teacherRows(rows, of: count, teacher: index)
      copy(teacher.image.rows(rows), into: taught.image)
      copy(teacher.text.rows(rows), into: taught.text)
    }
    let report = try objective.accumulate(
      image: image.rows(rows), text: text.rows(rows), rows: rows, count: count, logitScale: scale,
      teacherScale: S(Foundation.exp(teacherLogitScale)), ranks: ranks)
    let raw = objective.rawGradients()
    return Outcome(
      report: report, image: raw.image.doubles, text: raw.text.doubles, logitScale: Double(scale.gradient[0]),
      own: Dictionary(uniqueKeysWithValues: own.map { ($0.name, store.gradient(of: $0).doubles) }))
  }

  /// The same on ranks that are threads; gradients of parameters are summed, rows put one after another.
  func run(_ options: ObjectiveOptions, ranks: Int) throws -> [Outcome] {
    let n = count
    let results = Meeting.run(ranks: ranks) { rank, meeting in
      Result {
        try run(options, rank * n / ranks..<(rank + 1) * n / ranks, ThreadRanks<S>(rank: rank, meeting: meeting))
      }
    }
    return try results.map { try $0.get() }
  }

  static func joined(_ parts: [Outcome]) -> Outcome {
    var whole = parts[0]
    for part in parts.dropFirst() {
      whole.image += part.image
      whole.text += part.text
      whole.logitScale += part.logitScale
      for (name, numbers) in part.own { whole.own[name] = zip(whole.own[name] ?? [], numbers).map(+) }
    }
    return whole
  }
}

extension ObjectiveOptions {
  /// One term alone, with weight 1.
  static func only(_ term: WritableKeyPath<ObjectiveOptions, Double>, _ weight: Double = 1) -> ObjectiveOptions {
    var options = ObjectiveOptions()
    options.clip = 0
    options[keyPath: term] = weight
    return options
  }

  static func intra(_ change: (inout IntraOptions) -> Void) -> ObjectiveOptions {
    var options = only(\.intra)
    change(&options.intraOptions)
    return options
  }
}

/// The objectives that are checked against differences, against a plain reference and across ranks.
let checkedObjectives: [(name: String, options: ObjectiveOptions)] = {
  var list: [(String, ObjectiveOptions)] = [
    ("clip", .only(\.clip)), ("fd", .only(\.fd)), ("crd", .only(\.crd)), ("icl", .only(\.icl)),
    ("cross_kd", .only(\.crossKD)), ("gd", .only(\.gd, 1e4)), ("afd", .only(\.afd)), ("affinity", .only(\.affinity)),
    ("rkd", .only(\.rkd)), ("siglip", .only(\.siglip)), ("gram", .only(\.gram)),
  ]
  func vary(_ name: String, _ options: ObjectiveOptions, _ change: (inout ObjectiveOptions) -> Void) {
    var options = options
    change(&options)
    list.append((name, options))
  }
  vary("icl exp", .only(\.icl)) { $0.iclScale = .exp }
  vary("cross_kd exp", .only(\.crossKD)) { $0.iclScale = .exp }
  vary("gd proper", .only(\.gd)) { $0.gdScale = .proper }
  vary("rkd, mostly linear", .only(\.rkd)) { $0.rkdBeta = 0.05 }
  vary("affinity fixed", .only(\.affinity)) { $0.affinityScale = 5 }
  for weighting in IntraOptions.Weighting.allCases {
    for source in IntraOptions.Source.allCases {
      list.append(
        (
          "intra \(weighting) by \(source)",
          .intra { ($0.weighting, $0.source, $0.softmaxTemperature) = (weighting, source, 0.7) }
        ))
    }
  }
  for divergence in IntraOptions.Divergence.allCases {
    for diagonal in IntraOptions.Diagonal.allCases {
      list.append(("intra \(divergence) \(diagonal)", .intra { ($0.divergence, $0.diagonal) = (divergence, diagonal) }))
    }
  }
  for temperature in IntraOptions.Temperature.allCases {
    list.append(("intra \(temperature)", .intra { ($0.temperature, $0.tau) = (temperature, 0.3) }))
  }
  for form in CrossScaleForm.allCases {
    for teacher in IntraOptions.LearnedTeacher.allCases {
      list.append(
        (
          "intra learned \(form) beside \(teacher)",
          .intra {
            ($0.temperature, $0.diagonal) = (.learned, .keep)
            ($0.learnedScale, $0.learnedTeacher) = (form, teacher)
          }
        ))
    }
  }
  list.append(("intra by falling weights", .intra { ($0.weighting, $0.softmaxTemperature) = (.softmax, -0.7) }))
  list.append(("intra of modalities", .intra { ($0.granularity, $0.image, $0.text) = (.modality, 0.7, 1.3) }))
  list.append(("intra of images", .intra { $0.text = 0 }))
  list.append(("intra of captions, of modalities", .intra { ($0.granularity, $0.image) = (.modality, 0) }))
  vary("everything", ObjectivePreset.intra.options) {
    ($0.icl, $0.crossKD, $0.gd, $0.afd, $0.affinity, $0.fd, $0.siglip) = (0.5, 0.3, 100, 0.2, 0.4, 20, 0.6)
    $0.intraOptions.source = .crossKL
  }
  return list.map { (name: $0.0, options: $0.1) }
}()

/// Objectives whose gradients jump where |x| has its kink, so that differences need scenes without such places.
let kinkedObjectives: [(name: String, options: ObjectiveOptions)] = {
  var gram = ObjectiveOptions.only(\.gram)
  gram.gramWeights = .difference
  var list = [(name: "gram by differences", options: gram)]
  for total in IntraOptions.PairTotal.allCases {
    list.append(("intra of pairs over \(total)", .intra { ($0.granularity, $0.pairTotal) = (.pair, total) }))
  }
  return list
}()

/// Objectives that hold some of their weights constant, as a function whose differences are taken has to do too.
let heldObjectives: [(name: String, options: ObjectiveOptions)] = {
  var gram = ObjectiveOptions.only(\.gram)
  gram.gramWeights = .differenceNoGradient
  var list = [(name: "gram by differences without gradient", options: gram)]
  func add(_ name: String, _ base: ObjectiveOptions = .only(\.intra), _ change: (inout IntraOptions) -> Void) {
    var options = base
    change(&options.intraOptions)
    list.append((name, options))
  }
  for diagonal in IntraOptions.Diagonal.allCases {
    for total in IntraOptions.PairTotal.allCases {
      add("intra of pairs \(diagonal) over \(total) without gradient") {
        ($0.granularity, $0.weightGradient, $0.diagonal, $0.pairTotal) = (.pair, false, diagonal, total)
      }
    }
  }
  for weighting in [IntraOptions.Weighting.inverse, .softmax] {
    add("intra \(weighting) without gradient") {
      ($0.weighting, $0.weightGradient, $0.softmaxTemperature) = (weighting, false, -0.7)
    }
  }
  var standard = ObjectivePreset.intra.options
  standard.fd = 20
  add("all rows multiplied", standard) { $0.multiplies = [.intra, .clip, .crd, .fd] }
  add("other rows multiplied", standard) {
    ($0.multiplies, $0.weighting, $0.source) = ([.clip, .fd], .raw, .crossKL)
  }
  add("rows of their source multiplied", standard) {
    ($0.multiplies, $0.weighting, $0.source, $0.text) = ([.intra, .clip], .inverse, .clip, 0)
  }
  return list
}()

/// All of them.
let allObjectives = checkedObjectives + kinkedObjectives + heldObjectives
