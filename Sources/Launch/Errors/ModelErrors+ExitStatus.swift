public import Dist
public import Model

extension VocabularyError: ExitCoded {
  /// The exit code, which separates files that the system refuses, wrong contents, and wrong options.
  public var status: ExitStatus {
    switch self {
    case .unreadable, .unwritable: .inputOutput
    case .malformed, .unknownSymbol, .empty: .badData
    case .tooManyMerges: .usage
    }
  }
}

extension ImageError: ExitCoded {
  public var status: ExitStatus { .badData }
}

extension ConfigError: ExitCoded {
  public var status: ExitStatus { .badData }
}
