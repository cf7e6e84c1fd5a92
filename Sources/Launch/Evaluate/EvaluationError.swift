import Dist

/// Why an evaluation cannot be done.
enum EvaluationError: ExitCoded, Equatable, CustomStringConvertible {
  case nothingToEvaluate(corpus: String, lacks: String)
  case notFinite(item: String)
  case unreadable(path: String, reason: String)
  case unwritable(path: String, reason: String)
  case emptyLine(path: String, line: Int)
  case noPlaceholder(path: String, line: Int, found: String)
  case noClasses(corpus: String)
  case classesAreIDs(corpus: String, first: String)
  case unknownClass(path: String, name: String, known: Int)
  case labelWithoutClass(corpus: String, key: String, label: Int, classes: Int)
  case badPicture(path: String, reason: String)
  case nothingAt(path: String, expected: String)
  case noModel(path: String, reason: String)

  var exitCode: Int32 {
    switch self {
    case .unreadable, .unwritable: 74
    case .notFinite: 76
    default: 65
    }
  }

  var description: String {
    switch self {
    case .nothingToEvaluate(let corpus, let lacks):
      "the corpus \(corpus) has no \(lacks); evaluate on one that has"
    case .notFinite(let item):
      "the embedding of \(item) is not finite; the model has diverged: take an earlier checkpoint"
    case .unreadable(let path, let reason): "cannot read \(path): \(reason)"
    case .unwritable(let path, let reason): "cannot write \(path): \(reason)"
    case .emptyLine(let path, let line):
      "\(path), line \(line) is empty; expected one name or template a line"
    case .noPlaceholder(let path, let line, let found):
      "\(path), line \(line): expected a template with {} in place of the class's name, found “\(found)”"
    case .noClasses(let corpus):
      "the corpus \(corpus) does not name its classes; give a file with one name a line, in label order (--classes)"
    case .classesAreIDs(let corpus, let first):
      """
      the corpus \(corpus) knows its classes by WordNet ids (\(first), …), which tell a model nothing; give their names \
      with --classes (scripts/fetch-vocabulary writes imagenet-classes.txt)
      """
    case .unknownClass(let path, let name, let known):
      "\(path): there is no class “\(name)” among the \(known); write it as the list of classes does"
    case .labelWithoutClass(let corpus, let key, let label, let classes):
      """
      the picture “\(key)” of the corpus \(corpus) has label \(label), and there are \(classes) classes, \
      0 to \(classes - 1); give as many names as there are labels
      """
    case .badPicture(let path, let reason):
      "the picture “\(path)” cannot be embedded: \(reason); leave it out, or all such pictures with --skip-bad"
    case .nothingAt(let path, let expected): "\(path): expected \(expected), found nothing"
    case .noModel(let path, let reason): "no model can be loaded from \(path): \(reason)"
    }
  }
}
