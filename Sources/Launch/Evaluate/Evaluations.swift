import ArgumentParser
import Dist
import Foundation
import Model
import Settings
import Tensor

/// Measures recall of captions by images and of images by captions.
struct RetrievalEvaluation: Evaluation {
  /// The captions among which an image finds its own, and which are asked for their images.
  enum Candidates: String, CaseIterable, Codable, ExpressibleByArgument {
    case captions
    case distinctCaptions = "distinct-captions"
  }

  enum Captions: String, CaseIterable, Codable, ExpressibleByArgument, FieldValue {
    case all
    /// The first one, as in CLIP-KD's and the paper's protocol.
    case first
  }

  enum Duplicates: String, CaseIterable, Codable, ExpressibleByArgument, FieldValue {
    /// They are the same caption: each is an answer for every image that has one of them.
    case hits
    /// They are different captions: only an image's own captions are answers, as in CLIP-KD and the paper.
    case strict
  }

  let dataset: Dataset
  var candidates = Candidates.captions
  var captions = Captions.all
  /// With `strict`, the candidates are `captions`.
  var duplicates = Duplicates.hits
  var title: String {
    "retrieval \(dataset.name)" + (captions == .first ? " first" : "") + (duplicates == .strict ? " strict" : "")
  }

  func run(
    _ embedder: CLIPEmbedder, over communicator: Communicator, pause: @escaping () throws -> Void = {}
  ) throws -> RetrievalFigures {
    var taken = try EvaluatedCaptions(captions, of: dataset)
    let numbers =
      duplicates == .strict
      ? Array(0..<taken.count) : try communicator.textNumbers(taken.count) { taken.text($0) }
    var pairs = RetrievalPairs(images: dataset.count, captionImage: taken.samples, captionText: numbers)
    if candidates == .distinctCaptions {
      taken = taken.keeping(pairs.firstCaptions)
      pairs = pairs.distinct
    }
    let width = embedder.model.config.embedding
    try EvaluationEstimate(
      title, images: dataset.count, captions: taken.count, width: width, ranks: communicator.size
    ).requireMemory(over: communicator)
    let encoder = BlockEncoder(embedder: embedder, communicator: communicator, pause: pause)
    let images = try encoder.images(of: dataset, samples: Array(0..<dataset.count))
    let texts = try encoder.texts(taken.count) { taken.text($0) }
    let figures = try RetrievalRanking(pairs: pairs, pause: pause).places(images: images, texts: texts)
    return RetrievalFigures(
      dataset: dataset.name, images: dataset.count, captions: taken.count, captionsTaken: captions,
      candidates: candidates, duplicates: duplicates, imageToText: Recall(figures.imageToText),
      textToImage: Recall(figures.textToImage))
  }
}

extension Dataset {
  /// Returns the captions of some samples, and for each of them the place of its sample in the list.
  func texts(_ captions: RetrievalEvaluation.Captions, of samples: [Int]) throws -> (texts: [String], images: [Int]) {
    guard !samples.isEmpty else { throw nothingToEvaluate("images") }
    let own = samples.map { self.captions($0).prefix(captions == .all ? .max : 1) }
    let texts = own.flatMap { $0 }
    guard !texts.isEmpty else { throw nothingToEvaluate("captions") }
    return (texts, own.indices.flatMap { [Int](repeating: $0, count: own[$0].count) })
  }

  func nothingToEvaluate(_ lacks: String) -> UserError {
    UserError("the dataset \(name) has no \(lacks); evaluate on one that has")
  }
}

protocol Evaluation {
  associatedtype Results: EvaluationFigures
  var dataset: Dataset { get }
  /// The name in a run's log, which includes the protocol, because a dataset may be evaluated by several.
  var title: String { get }

  /// Returns the same figures on every rank, all of which must call it. `pause` is called between blocks.
  func run(_ embedder: CLIPEmbedder, over communicator: Communicator, pause: @escaping () throws -> Void) throws
    -> Results
}

extension Evaluation {
  /// The names of the figures in a run's log.
  var names: [String] { Results.names }
}

protocol EvaluationFigures: Codable, Equatable {
  /// The names of the figures that a run's log has. More is better for each.
  static var names: [String] { get }
  /// The figures in the order of their names.
  var values: [Double] { get }
  var lines: [String] { get }
}

/// The results of one direction of retrieval. Ranks count from 1.
struct Recall: Codable, Equatable {
  /// The number of queries, images or captions, and of the candidates for each.
  var queries: Int
  var candidates: Int
  /// The number of queries with an answer among the first 1, 5 and 10 candidates, and the same as shares, 0 to 1.
  var hits1: Int
  var hits5: Int
  var hits10: Int
  var recall1: Double
  var recall5: Double
  var recall10: Double
  var medianPlace: Int
  var meanPlace: Double
  /// The mean of 1/rank over the queries, whose ranks are among all candidates.
  var meanReciprocal: Double

  enum CodingKeys: String, CodingKey {
    case queries, candidates
    case hits1 = "hits@1"
    case hits5 = "hits@5"
    case hits10 = "hits@10"
    case recall1 = "R@1"
    case recall5 = "R@5"
    case recall10 = "R@10"
    case medianPlace = "median_rank"
    case meanPlace = "mean_rank"
    case meanReciprocal = "MRR"
  }

  init(_ places: PlaceCounts) {
    (queries, candidates) = (places.queries, places.counts.count)
    (hits1, hits5, hits10) = (places.hits(at: 1), places.hits(at: 5), places.hits(at: 10))
    (recall1, recall5, recall10) = (places.share(at: 1), places.share(at: 5), places.share(at: 10))
    (medianPlace, meanPlace, meanReciprocal) = (places.median, places.mean, places.meanReciprocal)
  }

  fileprivate var line: String {
    "R@1 \(percent(recall1))  R@5 \(percent(recall5))  R@10 \(percent(recall10))"
      + "  MRR \(percent(meanReciprocal))  median rank \(medianPlace) of \(candidates)"
  }

  fileprivate static let names = ["R@1", "R@5", "R@10", "MRR"]
  fileprivate var values: [Double] { [recall1, recall5, recall10, meanReciprocal] }
}

struct RetrievalFigures: EvaluationFigures {
  static let names = ["i2t", "t2i"].flatMap { direction in Recall.names.map { "\(direction) \($0)" } }
  var kind = "retrieval"
  var dataset: String
  var images: Int
  /// The number of captions that took part, and which of an image's captions these were.
  var captions: Int
  var captionsTaken: RetrievalEvaluation.Captions
  var candidates: RetrievalEvaluation.Candidates
  var duplicates: RetrievalEvaluation.Duplicates
  var imageToText: Recall
  var textToImage: Recall

  enum CodingKeys: String, CodingKey {
    case kind, captions, candidates, duplicates
    case dataset = "corpus"
    case images = "pictures"
    case captionsTaken = "captions_taken"
    case imageToText = "image_to_text"
    case textToImage = "text_to_image"
  }

  var lines: [String] {
    let which = (candidates == .captions ? "" : "distinct ") + (captionsTaken == .all ? "" : "first ")
    return [
      "retrieval on \(dataset): \(Figures.count(images, "image")), \(Figures.count(captions, which + "caption"))",
      "  image to caption  \(imageToText.line)", "  caption to image  \(textToImage.line)",
    ]
  }
  var values: [Double] { imageToText.values + textToImage.values }
}

struct ZeroShotFigures: EvaluationFigures {
  static let names = ["top-1", "top-5"]
  var kind = "zero-shot"
  var dataset: String
  var images: Int
  /// The number of classes among which the model chose, and of all classes.
  var classes: Int
  var ofClasses: Int
  var templates: Int
  /// The numbers of right answers, and the same as shares, 0 to 1.
  var top1Correct: Int
  var top5Correct: Int
  var top1: Double
  var top5: Double

  enum CodingKeys: String, CodingKey {
    case kind, classes, templates, top1, top5
    case dataset = "corpus"
    case images = "pictures"
    case ofClasses = "of_classes"
    case top1Correct = "top1_correct"
    case top5Correct = "top5_correct"
  }

  var lines: [String] {
    let among = (classes == ofClasses ? "" : "\(classes) of ") + Figures.count(ofClasses, "class", "classes")
    return [
      "zero-shot on \(dataset): \(Figures.count(images, "image")), \(among), \(Figures.count(templates, "template"))",
      "  top-1 \(percent(top1))  top-5 \(percent(top5))",
    ]
  }
  var values: [Double] { [top1, top5] }
}

private func percent(_ share: Double) -> String { Figures.fixed(100 * share, 2) + " %" }

/// Figures with the model that they belong to, its training step if it is known, and how transparent pixels became
/// opaque, as one flat JSON object.
struct EvaluationReport: Encodable {
  let checkpoint: String
  let step: Int?
  let alpha: AlphaHandling
  let figures: any EvaluationFigures

  enum CodingKeys: CodingKey { case checkpoint, step, alpha }

  func encode(to encoder: any Encoder) throws {
    try figures.encode(to: encoder)
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(checkpoint, forKey: .checkpoint)
    try values.encodeIfPresent(step, forKey: .step)
    try values.encode(alpha, forKey: .alpha)
  }
}

extension Encodable {
  /// Writes the value as a file of JSON.
  func writeJSON(to path: String) throws {
    let text = try jsonText(.prettyPrinted) + "\n"
    do throws(FileError) {
      try Publish.file(path) { file throws(FileError) in try file.append(Array(text.utf8)) }
    } catch { throw UserError("cannot write \(path): \(error.reason)", status: .inputOutput) }
  }
}

/// Classifies images by the names of classes.
struct ZeroShotEvaluation: Evaluation {
  /// The word for the classes of which the dataset has images, such as the 200 of ImageNet-R among ImageNet's 1,000.
  static let present = "present"
  let dataset: Dataset
  let prompts: Prompts
  /// The classes among which the model chooses, and whose images alone are classified; nil for all.
  var subset: [Int]?
  var title: String {
    let chosen = subset?.count ?? prompts.classes.count
    return "zero-shot \(dataset.name)\(chosen == prompts.classes.count ? "" : " among \(chosen)")"
  }

  /// Takes files of classes' names (nil: the dataset's own), of templates, and of a subset's names (or `present`).
  /// Every rank must call it.
  init(dataset: Dataset, classes: String?, templates: String?, subset: String?, over ranks: Communicator) throws {
    let names = try classes.map { try Prompts.lines($0, over: ranks) } ?? dataset.index.labels
    guard let first = names.first else {
      throw UserError(
        "the dataset \(dataset.name) does not name its classes; give a file with one name a line, in label order "
          + "(--classes)")
    }
    guard classes != nil || !names.allSatisfy(WordNetIDs.isOne) else {
      throw UserError(
        "the dataset \(dataset.name) names its classes by WordNet ids (\(first), …), which mean nothing to a model; "
          + "give their names with --classes (scripts/fetch-vocabulary writes imagenet-classes.txt)")
    }
    let sentences = try templates.map { try Prompts.templates($0, over: ranks) } ?? ["{}"]
    let prompts = Prompts(classes: names, templates: sentences)
    (self.dataset, self.prompts) = (dataset, prompts)
    // Labels without a name are left out here: `run` names their images.
    self.subset =
      subset == Self.present
      ? Set((0..<dataset.count).compactMap { dataset.label($0) }).filter(names.indices.contains).sorted()
      : try subset.map { try prompts.subset($0, over: ranks) }
    try ranks.requireSame("list of classes", "\(names)")
    try ranks.requireSame("list of templates", "\(prompts.templates)")
    try ranks.requireSame("subset of classes", "\(self.subset ?? [])")
  }

  func run(
    _ embedder: CLIPEmbedder, over communicator: Communicator, pause: @escaping () throws -> Void = {}
  ) throws -> ZeroShotFigures {
    let chosen = subset ?? Array(prompts.classes.indices)
    let columns = Dictionary(uniqueKeysWithValues: zip(chosen, chosen.indices))
    var samples: [Int] = []
    var answers: [Int] = []
    for sample in 0..<dataset.count {
      guard let label = dataset.label(sample) else { continue }
      guard prompts.classes.indices.contains(label) else {
        let count = prompts.classes.count
        throw UserError(
          "the image “\(dataset.key(sample))” of the dataset \(dataset.name) has label \(label), and there are "
            + "\(Figures.count(count, "class", "classes")), 0 to \(count - 1); give as many names as there are labels")
      }
      guard let column = columns[label] else { continue }
      samples.append(sample)
      answers.append(column)
    }
    guard !samples.isEmpty else { throw dataset.nothingToEvaluate("images with a label among the classes") }
    let asked = Prompts(classes: chosen.map { prompts.classes[$0] }, templates: prompts.templates)
    let encoder = BlockEncoder(embedder: embedder, communicator: communicator, pause: pause)
    let sentences = try encoder.texts(asked.count, text: asked.text)
    // Each rank makes the embeddings of some classes, for which it gets all their prompts.
    let (shares, each) = (communicator.slices(of: chosen.count), asked.templates.count)
    let whole = try sentences.redistributed(shares.map { $0.lowerBound * each..<$0.upperBound * each })
    let classes = DistributedRows(
      classEmbeddings(prompts: whole.own, perClass: each), ranges: shares, over: communicator)
    let images = try encoder.images(of: dataset, samples: samples)
    let places = try images.places(among: classes, pause: pause) { query, range in
      range.contains(answers[query]) ? [answers[query]] : []
    }
    return ZeroShotFigures(
      dataset: dataset.name, images: samples.count, classes: chosen.count, ofClasses: prompts.classes.count,
      templates: asked.templates.count, top1Correct: places.hits(at: 1), top5Correct: places.hits(at: 5),
      top1: places.share(at: 1), top5: places.share(at: 5))
  }
}

/// The classes of a zero-shot evaluation, and the sentences that name them.
struct Prompts: Equatable {
  let classes: [String]
  /// The sentences, in which `{}` stands for the class's name.
  let templates: [String]
  var count: Int { classes.count * templates.count }

  /// Returns a class's name in a template. Those of a class follow one another.
  func text(_ index: Int) -> String {
    templates[index % templates.count].replacing("{}", with: classes[index / templates.count])
  }

  /// Reads a file of templates, one a line, each with `{}`. Every rank must call it.
  static func templates(_ path: String, over ranks: Communicator) throws -> [String] {
    let templates = try lines(path, over: ranks)
    for (line, template) in templates.enumerated() where !template.contains("{}") {
      throw UserError(
        "\(path), line \(line + 1): expected a template with {} in place of the class's name, found “\(template)”")
    }
    return templates
  }

  /// Returns the numbers of the classes that a file names, one a line, each once and in label order. Every rank must
  /// call it.
  func subset(_ path: String, over ranks: Communicator) throws -> [Int] {
    let names = try Self.lines(path, over: ranks)
    let known = Set(classes)
    for name in names where !known.contains(name) {
      throw UserError(
        path, "there is no class “\(name)” among the \(classes.count); write it as the list of classes does")
    }
    return classes.indices.filter { Set(names).contains(classes[$0]) }
  }

  /// Returns the lines of a text file on every rank, which must all call it. Launchers give standard input (-) to rank
  /// 0 alone.
  static func lines(_ path: String, over ranks: Communicator) throws -> [String] {
    try path == "-" ? ranks.broadcast { try lines(path) } : lines(path)
  }

  /// Returns the lines of a text file, or of standard input (-): at least one, and only the last ones may be empty.
  static func lines(_ path: String) throws -> [String] {
    var lines = try TextFile.read(path, acceptsInput: true)
      .split(omittingEmptySubsequences: false, whereSeparator: \.endsLine)
      .map { $0.trimmingCharacters(in: .whitespaces) }
    while lines.last == "" { lines.removeLast() }
    guard let empty = lines.isEmpty ? 0 : lines.firstIndex(of: "") else { return lines }
    let name = path == "-" ? "standard input" : path
    throw UserError("\(name), line \(empty + 1) is empty; expected a text on each line")
  }
}
