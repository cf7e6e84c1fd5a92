/// A byte-pair vocabulary in CLIP's file format.
///
/// The file has a header line and then one merge a line, `left right`, in the order in which they were learned; a
/// symbol is written with the characters of `ByteAlphabet`, and `</w>` marks the end of a word. Ids: 256 bytes, the
/// same 256 at the end of a word, one id a merge, then start and end of text.
public struct Vocabulary: Sendable {
  /// What readers of the format take of a file at most: OpenAI's file has 262,144 merges, of which CLIP uses the
  /// first 49,152 − 256 − 2.
  public static let mergeLimit = 48_894

  /// The mark of the last symbol of a word.
  static let wordEnd = "</w>"

  /// The symbols that every vocabulary has, by id: 256 bytes, and the same at the end of a word.
  static let byteSymbols: [String] = {
    let characters = ByteAlphabet.characters.map { String(Character($0)) }
    return characters + characters.map { $0 + wordEnd }
  }()

  /// The two symbols that each merge joins, by id.
  let merges: [(left: Int32, right: Int32)]
  /// The symbols by id, special tokens left out, as they are written in the file.
  let symbols: [String]
  /// The id of each merge's result. Where two merges make the same symbol it is the later one's.
  let results: [Int32]

  public var mergeCount: Int { merges.count }
  /// Rows that an embedding table needs: 512 + merges + 2.
  public var size: Int { symbols.count + 2 }
  /// The id of the start-of-text token.
  public var start: Int32 { Int32(symbols.count) }
  /// The id of the end-of-text token, the largest.
  public var end: Int32 { start + 1 }

  /// Reads a vocabulary file, plain or gzip-compressed.
  public init(contentsOf path: String) throws(VocabularyError) {
    let bytes = try CompressedFile.read(path)
    var lines = bytes.split(separator: 0x0A, maxSplits: Self.mergeLimit + 1, omittingEmptySubsequences: false)
    if lines.count == Self.mergeLimit + 2 { lines.removeLast() }  // what is beyond the merges that count
    guard bytes.isEmpty == false, lines.count > 0 else { throw .empty(path: path) }
    // A line feed after the last merge is not a merge.
    while lines.count > 1, lines[lines.count - 1].allSatisfy({ $0 == 0x0D }) { lines.removeLast() }
    var pairs: [(String, String)] = []
    pairs.reserveCapacity(lines.count)
    for (at, line) in lines.enumerated().dropFirst() {
      let parts = line.split(whereSeparator: { $0 == 0x20 || $0 == 0x0D || $0 == 0x09 })
      guard parts.count == 2 else {
        throw .malformed(path: path, line: at + 1, found: String(decoding: line.prefix(80), as: UTF8.self))
      }
      pairs.append((String(decoding: parts[0], as: UTF8.self), String(decoding: parts[1], as: UTF8.self)))
    }
    try self.init(pairs, path: path)
  }

  /// The vocabulary of these merges; `path` is named in errors.
  init(_ pairs: [(String, String)], path: String) throws(VocabularyError) {
    let symbols = Self.byteSymbols + pairs.map { $0.0 + $0.1 }
    var ids: [String: Int32] = [:]
    ids.reserveCapacity(symbols.count)
    for (id, symbol) in symbols.enumerated() { ids[symbol] = Int32(id) }
    var merges: [(left: Int32, right: Int32)] = []
    merges.reserveCapacity(pairs.count)
    for (at, pair) in pairs.enumerated() {
      guard let left = ids[pair.0] else { throw .unknownSymbol(path: path, line: at + 2, symbol: pair.0) }
      guard let right = ids[pair.1] else { throw .unknownSymbol(path: path, line: at + 2, symbol: pair.1) }
      merges.append((left, right))
    }
    self.merges = merges
    self.symbols = symbols
    results = symbols[512...].map { ids[$0] ?? 0 }
  }

  /// Writes the file, compressed if its name ends in `.gz`.
  ///
  /// There is no line feed after the last merge: other readers take an empty last line for one more merge.
  public func write(to path: String) throws(VocabularyError) {
    let lines = merges.map { "\(symbols[Int($0.left)]) \(symbols[Int($0.right)])" }
    try CompressedFile.write(Array((["#version: 0.2"] + lines).joined(separator: "\n").utf8), to: path)
  }

  /// The bytes of a symbol, and whether a word ends with it.
  func text(of id: Int32) -> (bytes: [UInt8], endsWord: Bool) {
    let symbol = symbols[Int(id)]
    let endsWord = id >= 256 && symbol.hasSuffix(Self.wordEnd)
    let letters = endsWord ? symbol.dropLast(Self.wordEnd.count) : symbol[...]
    return (letters.unicodeScalars.compactMap { Self.byteOfCharacter[$0] }, endsWord)
  }

  private static let byteOfCharacter = Dictionary(
    uniqueKeysWithValues: zip(ByteAlphabet.characters, ByteAlphabet.bytes))
}
