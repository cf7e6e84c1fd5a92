import Dist

/// The reasons why a report cannot be written.
enum ReportError: ExitCoded, Equatable, CustomStringConvertible {
  case noLog(run: String, FileError)
  case emptyLog(path: String, lines: Int)
  case unwritable(FileError)

  var status: ExitStatus { if case .emptyLog = self { .badData } else { .inputOutput } }

  var description: String {
    switch self {
    case .noLog(let run, let error):
      "\(run) has no log that can be read (\(error)); expected the folder of a run, as kinship train makes it"
    case .emptyLog(let path, let lines):
      lines == 0
        ? "\(path) is empty: the run has not begun"
        : "\(path): none of \(lines) lines is one that kinship train writes; expected a run's log"
    case .unwritable(let error): "\(error); name another file with --output"
    }
  }
}
