public import Dist
public import Model

/// A vocabulary that the system refuses is told from one that is wrong, and from a wrong wish.
extension VocabularyError: ExitCoded {
  public var status: ExitStatus {
    switch self {
    case .unreadable, .unwritable: .inputOutput
    case .malformed, .unknownSymbol, .empty: .badData
    case .tooManyMerges: .usage
    }
  }
}

/// An image or a way to prepare it; where the image has a name, a `SampleError` tells it.
extension ImageError: ExitCoded {
  public var status: ExitStatus { .badData }
}

/// A model that cannot be built.
extension ConfigError: ExitCoded {
  public var status: ExitStatus { .badData }
}
