import Dist

/// An evaluation that is not possible.
enum EvaluationError: ExitCoded, Equatable, CustomStringConvertible {
  case nothingToEvaluate(dataset: String, lacks: String)
  case notFinite(item: String)
  case unreadable(path: String, reason: String)
  case unwritable(path: String, reason: String)
  case emptyLine(path: String, line: Int)
  case noPlaceholder(path: String, line: Int, found: String)
  case noClasses(dataset: String)
  case classesAreIDs(dataset: String, first: String)
  case labelWithoutClass(dataset: String, key: String, label: Int, classes: Int)
  case badImage(path: String, reason: String)
  case noModel(path: String, reason: String)

  var status: ExitStatus {
    switch self {
    case .unreadable, .unwritable: .inputOutput
    case .notFinite: .notFinite
    default: .badData
    }
  }

  var description: String {
    switch self {
    case .nothingToEvaluate(let dataset, let lacks): "the dataset \(dataset) has no \(lacks); evaluate on one that has"
    case .notFinite(let item):
      "the embedding of \(item) is not finite; the model has diverged: take an earlier checkpoint"
    case .unreadable(let path, let reason): "cannot read \(path): \(reason)"
    case .unwritable(let path, let reason): "cannot write \(path): \(reason)"
    case .emptyLine(let path, let line): "\(path), line \(line) is empty; expected one name or template a line"
    case .noPlaceholder(let path, let line, let found):
      "\(path), line \(line): expected a template with {} in place of the class's name, found “\(found)”"
    case .noClasses(let dataset):
      "the dataset \(dataset) does not name its classes; give a file with one name a line, in label order (--classes)"
    case .classesAreIDs(let dataset, let first):
      """
      the dataset \(dataset) names its classes by WordNet ids (\(first), …), which mean nothing to a model; give their \
      names with --classes (scripts/fetch-vocabulary writes imagenet-classes.txt)
      """
    case .labelWithoutClass(let dataset, let key, let label, let classes):
      """
      the image “\(key)” of the dataset \(dataset) has label \(label), and there are \(classes) classes, \
      0 to \(classes - 1); give as many names as there are labels
      """
    case .badImage(let path, let reason):
      "the image “\(path)” cannot be embedded: \(reason); leave it out, or skip all such images with --skip-bad"
    case .noModel(let path, let reason): "no model can be loaded from \(path): \(reason)"
    }
  }
}
