import Dist
import Foundation
import Model
import Tensor

/// Classifies images by the names of classes.
struct ZeroShotEvaluation {
  /// The word for the classes of which the dataset has images, such as the 200 of ImageNet-R among ImageNet's 1,000.
  static let present = "present"

  let dataset: Dataset
  let prompts: Prompts
  /// The classes among which the model chooses, and whose images alone are classified; nil for all.
  var subset: [Int]?

  /// - Parameters:
  ///   - classes: a file of the classes' names; if nil, the dataset's own names are taken.
  ///   - templates: a file of templates.
  ///   - subset: a file of the subset's names, or `present`.
  init(dataset: Dataset, classes: String?, templates: String?, subset: String?) throws {
    let names = try classes.map(Prompts.lines) ?? dataset.index.labels
    guard !names.isEmpty else { throw EvaluationError.noClasses(dataset: dataset.name) }
    guard classes != nil || !names.allSatisfy(WordNetIDs.isOne) else {
      throw EvaluationError.classesAreIDs(dataset: dataset.name, first: names[0])
    }
    var prompts = Prompts(classes: names)
    if let templates { prompts.templates = try Prompts.templates(templates) }
    self.dataset = dataset
    self.prompts = prompts
    // Labels without a name are left out here: `run` names their images.
    self.subset =
      subset == Self.present
      ? Set((0..<dataset.count).compactMap { dataset.label($0) }).filter(names.indices.contains).sorted()
      : try subset.map(prompts.subset)
  }

  /// Returns the same figures on every rank. Every rank must call it. `pause` is called between blocks: see
  /// `BlockEncoder`.
  func run(
    _ embedder: any Embedder, over communicator: Communicator, pause: @escaping () throws -> Void = {}
  ) throws -> ZeroShotFigures {
    let chosen = subset ?? Array(prompts.classes.indices)
    let columns = Dictionary(uniqueKeysWithValues: zip(chosen, chosen.indices))
    var samples: [Int] = []
    var answers: [Int] = []
    for sample in 0..<dataset.count {
      guard let label = dataset.label(sample) else { continue }
      guard prompts.classes.indices.contains(label) else {
        throw EvaluationError.labelWithoutClass(
          dataset: dataset.name, key: dataset.key(sample), label: label, classes: prompts.classes.count)
      }
      guard let column = columns[label] else { continue }
      samples.append(sample)
      answers.append(column)
    }
    guard !samples.isEmpty else {
      throw EvaluationError.nothingToEvaluate(dataset: dataset.name, lacks: "images with a label among the classes")
    }

    var asked = Prompts(classes: chosen.map { prompts.classes[$0] })
    asked.templates = prompts.templates
    let encoder = BlockEncoder(embedder: embedder, communicator: communicator, pause: pause)
    let classes = classEmbeddings(prompts: try encoder.texts(asked.texts), perClass: asked.templates.count)
    let images = try encoder.images(of: dataset, samples: samples)
    let places = try communicator.places(of: images, among: classes) { [answers[$0]] }
    return ZeroShotFigures(
      dataset: dataset.name, images: samples.count, classes: chosen.count, ofClasses: prompts.classes.count,
      templates: asked.templates.count, top1Correct: places.hits(at: 1), top5Correct: places.hits(at: 5),
      top1: places.share(at: 1), top5: places.share(at: 5))
  }
}

/// The classes of a zero-shot evaluation, and the sentences that name them.
struct Prompts: Equatable {
  /// The names by label.
  let classes: [String]
  /// The sentences, in which `{}` stands for the class's name. The default is the name alone.
  var templates = ["{}"]

  init(classes: [String]) { self.classes = classes }

  /// All sentences, class after class.
  var texts: [String] {
    classes.flatMap { name in templates.map { $0.replacing("{}", with: name) } }
  }

  /// Reads a file of templates, one a line, each with `{}`.
  static func templates(_ path: String) throws -> [String] {
    let templates = try lines(path)
    for (line, template) in templates.enumerated() where !template.contains("{}") {
      throw EvaluationError.noPlaceholder(path: path, line: line + 1, found: template)
    }
    return templates
  }

  /// Returns the numbers of the classes that a file names, one a line, each once and in label order.
  func subset(_ path: String) throws -> [Int] {
    let names = try Self.lines(path)
    let known = Set(classes)
    for name in names where !known.contains(name) {
      throw UserError(
        path, "there is no class “\(name)” among the \(classes.count); write it as the list of classes does")
    }
    return classes.indices.filter { Set(names).contains(classes[$0]) }
  }

  /// Returns the lines of a text file, or of standard input (-). There must be at least one line, and only lines at the
  /// end may be empty.
  static func lines(_ path: String) throws -> [String] {
    let data: Data
    do {
      data = try path == "-" ? FileHandle.standardInput.readToEnd() ?? Data() : Data(contentsOf: URL(filePath: path))
    } catch {
      throw EvaluationError.unreadable(
        path: path, reason: (error as NSError).localizedFailureReason ?? error.localizedDescription)
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      throw EvaluationError.unreadable(path: path, reason: "it is not UTF-8 text")
    }
    var lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
      .map { $0.trimmingCharacters(in: .whitespaces) }
    while lines.last == "" { lines.removeLast() }
    if let empty = lines.firstIndex(of: "") { throw EvaluationError.emptyLine(path: path, line: empty + 1) }
    if lines.isEmpty { throw EvaluationError.emptyLine(path: path, line: 1) }
    return lines
  }
}
