public import Dist
public import Model

/// A vocabulary that the system refuses is told from one that is wrong, and from a wrong wish.
extension VocabularyError: ExitCoded {
  public var exitCode: Int32 {
    switch self {
    case .unreadable, .unwritable: 74
    case .malformed, .unknownSymbol, .empty: 65
    case .tooManyMerges: 64
    }
  }
}

/// A picture or a way to prepare it; where the picture has a name, a `SampleError` tells it.
extension ImageError: ExitCoded {
  public var exitCode: Int32 { 65 }
}

/// A model that cannot be built.
extension ConfigError: ExitCoded {
  public var exitCode: Int32 { 65 }
}
