import Dist
import Foundation
import Model
import Tensor

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
