import Dist
import Model
import Tensor

/// Classification of pictures by the names of classes.
struct ZeroShotEvaluation {
  /// The word for the classes of which the corpus has pictures, as ImageNet-R has of 200 among ImageNet's 1,000.
  static let present = "present"

  let corpus: Corpus
  let prompts: Prompts
  /// The classes among which to choose; only their pictures are classified. Nil: all.
  var subset: [Int]?

  /// Names from a file, or the corpus's own; a file of templates where given; and of the subset's names, or `present`.
  init(corpus: Corpus, classes: String?, templates: String?, subset: String?) throws {
    let names = try classes.map(Prompts.lines) ?? corpus.index.labels
    guard !names.isEmpty else { throw EvaluationError.noClasses(corpus: corpus.name) }
    guard classes != nil || !names.allSatisfy(WordNetIDs.isOne) else {
      throw EvaluationError.classesAreIDs(corpus: corpus.name, first: names[0])
    }
    var prompts = Prompts(classes: names)
    if let templates { prompts.templates = try Prompts.templates(templates) }
    self.corpus = corpus
    self.prompts = prompts
    // Labels without a name stay out of it: `run` names their pictures.
    self.subset =
      subset == Self.present
      ? Set((0..<corpus.count).compactMap { corpus.label($0) }).filter(names.indices.contains).sorted()
      : try subset.map(prompts.subset)
  }

  /// Every rank must call it; all get the same figures. `pause` is called between blocks: see `BlockEncoder`.
  func run(
    _ embedder: any Embedder, over communicator: Communicator, pause: @escaping () throws -> Void = {}
  ) throws -> ZeroShotFigures {
    let chosen = subset ?? Array(prompts.classes.indices)
    let columns = Dictionary(uniqueKeysWithValues: zip(chosen, chosen.indices))
    var samples: [Int] = []
    var answers: [Int] = []
    for sample in 0..<corpus.count {
      guard let label = corpus.label(sample) else { continue }
      guard prompts.classes.indices.contains(label) else {
        throw EvaluationError.labelWithoutClass(
          corpus: corpus.name, key: corpus.key(sample), label: label, classes: prompts.classes.count)
      }
      guard let column = columns[label] else { continue }
      samples.append(sample)
      answers.append(column)
    }
    guard !samples.isEmpty else {
      throw EvaluationError.nothingToEvaluate(corpus: corpus.name, lacks: "pictures with a label among the classes")
    }

    var asked = Prompts(classes: chosen.map { prompts.classes[$0] })
    asked.templates = prompts.templates
    let encoder = BlockEncoder(embedder: embedder, communicator: communicator, pause: pause)
    let classes = classEmbeddings(prompts: try encoder.texts(asked.texts), perClass: asked.templates.count)
    let images = try encoder.pictures(of: corpus, samples: samples)
    let places = try communicator.places(of: images, among: classes) { [answers[$0]] }
    return ZeroShotFigures(
      corpus: corpus.name, pictures: samples.count, classes: chosen.count, ofClasses: prompts.classes.count,
      templates: asked.templates.count, top1Correct: places.hits(at: 1), top5Correct: places.hits(at: 5),
      top1: places.share(at: 1), top5: places.share(at: 5))
  }
}
