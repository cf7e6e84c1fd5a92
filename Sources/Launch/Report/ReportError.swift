import Dist

/// Why no report can be written.
enum ReportError: ExitCoded, Equatable, CustomStringConvertible {
  case noLog(run: String, FileError)
  case emptyLog(path: String, lines: Int)
  case unwritable(FileError)
  case noExamples(reason: String)

  var exitCode: Int32 {
    switch self {
    case .noLog, .unwritable: 74
    case .emptyLog, .noExamples: 65
    }
  }

  var description: String {
    switch self {
    case .noLog(let run, let error):
      "\(run) has no log that can be read (\(error)); expected the folder of a run, as kinship train makes it"
    case .emptyLog(let path, let lines):
      lines == 0
        ? "\(path) is empty: the run has not begun"
        : "\(path): none of \(lines) lines is one that kinship train writes; expected a run's log"
    case .unwritable(let error): "\(error); name another file with --output"
    case .noExamples(let reason): "no retrieval examples: \(reason)"
    }
  }
}
