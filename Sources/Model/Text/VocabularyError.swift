/// Why a vocabulary cannot be read, learned or written.
public enum VocabularyError: Error, Equatable, CustomStringConvertible {
  case unreadable(path: String, reason: String)
  case malformed(path: String, line: Int, found: String)
  case unknownSymbol(path: String, line: Int, symbol: String)
  case empty(path: String)
  case unwritable(path: String, reason: String)
  case tooManyMerges(asked: Int, limit: Int)

  public var description: String {
    switch self {
    case .unreadable(let path, let reason): "vocabulary \(path): \(reason)"
    case .malformed(let path, let line, let found):
      """
      vocabulary \(path), line \(line): expected two symbols with a space between them, found “\(found)”; give CLIP's \
      merges file (bpe_simple_vocab_16e6.txt.gz) or one that `kinship vocabulary train` wrote
      """
    case .unknownSymbol(let path, let line, let symbol):
      """
      vocabulary \(path), line \(line): the symbol “\(symbol)” is neither a byte nor made by any merge; the file is \
      damaged or lacks lines
      """
    case .empty(let path): "vocabulary \(path): the file has no line; expected a header line and merges"
    case .unwritable(let path, let reason): "vocabulary \(path) cannot be written: \(reason)"
    case .tooManyMerges(let asked, let limit):
      "\(asked) merges asked for; expected 0 to \(limit), as many as readers of CLIP's format take"
    }
  }
}
