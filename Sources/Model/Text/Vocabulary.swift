/// A byte-pair vocabulary in CLIP's file format.
///
/// The file has a header line with `#version` and then one merge a line, `left right`, in the order in which the merges
/// were learned. A symbol is written with the characters of `ByteAlphabet`, and `</w>` marks the end of a word. Token
/// ids are assigned in this order: 256 bytes, the same 256 at the end of a word, one id for each merge, start of text,
/// end of text.
public struct Vocabulary: Sendable, Equatable {
  /// The most merges that readers of the format take from a file. OpenAI's file has 262,144 merges, of which CLIP uses
  /// the first 49,152 − 256 − 2.
  public static let mergeLimit = 48_894

  /// The origin of a vocabulary, as the header line of its file tells it.
  public enum Origin: Sendable {
    /// CLIP's own file, which has more merges than the limit.
    case clip
    /// A file of `kinship vocabulary train`, whose header has the number of its merges.
    case learned
    /// Any other file in this format, such as `merges.txt` of Hugging Face.
    case unknown
  }

  /// The mark at the end of the last symbol of a word.
  static let wordEnd = "</w>"

  /// The symbols that every vocabulary has, by id: 256 bytes, and the same at the end of a word.
  static let byteSymbols: [String] = {
    let characters = ByteAlphabet.characters.map { String(Character($0)) }
    return characters + characters.map { $0 + wordEnd }
  }()

  /// The ids of the two symbols that each merge joins.
  let merges: [(left: Int32, right: Int32)]
  /// All symbols but the special tokens, by id, as they are written in the file.
  let symbols: [String]
  /// The id of each merge's result. If two merges make the same symbol, it is the later one's.
  let results: [Int32]
  public let origin: Origin

  public var mergeCount: Int { merges.count }
  /// The number of token ids, and so of rows in a token embedding: 512 + merges + 2.
  public var size: Int { symbols.count + 2 }
  /// The id of the start-of-text token.
  public var start: Int32 { Int32(symbols.count) }
  /// The id of the end-of-text token, which is the largest id.
  public var end: Int32 { start + 1 }

  /// Reads a vocabulary file, plain or gzip-compressed. Throws if its first line is no header, if a merge is malformed
  /// or unknown, or if there are fewer merges than the header promises.
  public init(contentsOf path: String) throws(VocabularyError) {
    let bytes = try CompressedFile.read(path)
    var lines = bytes.split(separator: 0x0A, maxSplits: Self.mergeLimit + 1, omittingEmptySubsequences: false)
    if lines.count == Self.mergeLimit + 2 { lines.removeLast() }  // everything beyond the limit of merges
    guard !bytes.isEmpty else { throw .empty(path: path) }
    let header = String(decoding: lines[0].prefix(80), as: UTF8.self)
    guard header.contains("#version") else {
      throw .noHeader(path: path, found: lines[0].prefix(80).contains(0) ? "zero bytes" : "“\(header)”")
    }
    let (origin, promised) = Self.promise(of: header, isAlone: lines.count == 1)
    // A line feed after the last merge is not a merge.
    while lines.count > 1, lines[lines.count - 1].allSatisfy({ $0 == 0x0D }) { lines.removeLast() }
    let found = lines.count - 1
    guard found == promised || found > promised && origin != .learned else {
      throw .mergesMissing(path: path, promised: promised, found: found)
    }
    var pairs: [(String, String)] = []
    for (at, line) in lines.enumerated().dropFirst() {
      let parts = line.split(whereSeparator: { $0 == 0x20 || $0 == 0x0D || $0 == 0x09 })
      guard parts.count == 2 else {
        throw .malformed(path: path, line: at + 1, found: String(decoding: line.prefix(80), as: UTF8.self))
      }
      pairs.append((String(decoding: parts[0], as: UTF8.self), String(decoding: parts[1], as: UTF8.self)))
    }
    try self.init(pairs, path: path, origin: origin)
  }

  /// Returns the origin that a header line tells, and the number of merges that it promises: the least number, or for
  /// `learned` the exact one.
  private static func promise(of header: String, isAlone: Bool) -> (origin: Origin, merges: Int) {
    if header.contains("bpe_simple_vocab_16e6") { return (.clip, mergeLimit) }
    let words = header.split(whereSeparator: \.isWhitespace)
    if words.count == 4, words[0].hasSuffix("#version:"), words[3] == "merges", let merges = Int(words[2]) {
      return (.learned, merges)
    }
    // Earlier releases promised no number, and wrote a header without a line feed for bytes alone. Any other file
    // without a merge has been cut off.
    return isAlone && header == "#version: 0.2" ? (.learned, 0) : (.unknown, 1)
  }

  /// Creates the vocabulary of these merges. Throws `VocabularyError.unknownSymbol`, which names `path`.
  init(_ pairs: [(String, String)], path: String, origin: Origin = .learned) throws(VocabularyError) {
    let symbols = Self.byteSymbols + pairs.map { $0.0 + $0.1 }
    let ids: [String: Int32] = Dictionary(zip(symbols, Int32(0)...), uniquingKeysWith: { $1 })
    var merges: [(left: Int32, right: Int32)] = []
    for (at, pair) in pairs.enumerated() {
      guard let left = ids[pair.0] else { throw .unknownSymbol(path: path, line: at + 2, symbol: pair.0) }
      guard let right = ids[pair.1] else { throw .unknownSymbol(path: path, line: at + 2, symbol: pair.1) }
      merges.append((left, right))
    }
    (self.merges, self.symbols, self.origin) = (merges, symbols, origin)
    results = symbols[512...].map { ids[$0] ?? 0 }
  }

  /// Returns whether both give every text the same ids.
  public static func == (one: Vocabulary, other: Vocabulary) -> Bool {
    one.symbols == other.symbols && one.merges.elementsEqual(other.merges) { $0 == $1 }
  }

  /// Writes the vocabulary file, compressed if its name ends in `.gz`. The header has the number of merges, which shows
  /// whether the file is whole; other readers skip that line. The last merge has no line feed, because they take an
  /// empty last line for one more merge.
  public func write(to path: String) throws(VocabularyError) {
    let header = "#version: 0.2, \(mergeCount) merges"
    let lines = [header] + merges.map { "\(symbols[Int($0.left)]) \(symbols[Int($0.right)])" }
    try CompressedFile.write(Array(lines.joined(separator: "\n").utf8), to: path)
  }

  /// Returns the bytes of a symbol, and whether it ends a word.
  func text(of id: Int32) -> (bytes: [UInt8], endsWord: Bool) {
    let symbol = symbols[Int(id)]
    let endsWord = id >= 256 && symbol.hasSuffix(Self.wordEnd)
    let letters = endsWord ? symbol.dropLast(Self.wordEnd.count) : symbol[...]
    return (letters.unicodeScalars.compactMap { Self.byteOfCharacter[$0] }, endsWord)
  }

  private static let byteOfCharacter = Dictionary(
    uniqueKeysWithValues: zip(ByteAlphabet.characters, ByteAlphabet.bytes))
}

/// The printable characters that represent the 256 bytes in a vocabulary file. Printable bytes of Latin-1 represent
/// themselves and have the ids 0 to 187; the other 68 bytes follow in rising order, represented by U+0100 and up.
enum ByteAlphabet {
  /// The byte of each id.
  static let bytes: [UInt8] = {
    let printable = Array(UInt8(0x21)...0x7E) + Array(0xA1...0xAC) + Array(0xAE...0xFF)
    return printable + (UInt8.min...UInt8.max).filter { !printable.contains($0) }
  }()

  /// The id of each byte.
  static let ids: [Int32] = bytes.enumerated().reduce(into: Array(repeating: 0, count: 256)) { ids, pair in
    ids[Int(pair.element)] = Int32(pair.offset)
  }

  /// The character of each id.
  static let characters: [Unicode.Scalar] = bytes.enumerated().map { id, byte in
    id < 188 ? Unicode.Scalar(byte) : Unicode.Scalar(UInt16(256 + id - 188)) ?? "\u{FFFD}"
  }
}

/// The reasons why a vocabulary cannot be read, trained or written.
public enum VocabularyError: Error, Equatable, CustomStringConvertible {
  case unreadable(path: String, reason: String)
  case damaged(path: String, reason: String)
  case malformed(path: String, line: Int, found: String)
  case unknownSymbol(path: String, line: Int, symbol: String)
  case empty(path: String)
  case noHeader(path: String, found: String)
  case mergesMissing(path: String, promised: Int, found: Int)
  case unwritable(path: String, reason: String)
  case tooManyMerges(asked: Int, limit: Int)

  public var description: String {
    switch self {
    case .unreadable(let path, let reason), .damaged(let path, let reason): "vocabulary \(path): \(reason)"
    case .malformed(let path, let line, let found):
      "vocabulary \(path), line \(line): expected two symbols separated by a space, found “\(found)”; \(Self.advice)"
    case .unknownSymbol(let path, let line, let symbol):
      "vocabulary \(path), line \(line): the symbol “\(symbol)” is neither a byte nor the result of any merge; the "
        + "file is damaged or incomplete"
    case .empty(let path): "vocabulary \(path): the file is empty; expected a header line and merges"
    case .noHeader(let path, let found):
      "vocabulary \(path), line 1: expected a header with #version, found \(found); \(Self.advice)"
    case .mergesMissing(let path, let promised, let found):
      "vocabulary \(path): its header promises \(promised == 1 ? "merges" : "\(promised) merges"), it has "
        + "\(found == 0 ? "none" : "\(found)"); the file is damaged or incomplete: copy it again"
    case .unwritable(let path, let reason): "vocabulary \(path) cannot be written: \(reason)"
    case .tooManyMerges(let asked, let limit):
      "\(asked) merges requested; expected 0 to \(limit), the most that readers of CLIP's format accept"
    }
  }

  private static let advice =
    "give CLIP's merges file (bpe_simple_vocab_16e6.txt.gz) or one that `kinship vocabulary train` wrote"
}
