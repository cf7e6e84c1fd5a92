import Foundation
import TestSupport
import Testing

@testable import Model

@Suite struct TextVocabularyTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  @Test(arguments: [
    "#version: 0.2\na b\nab c</w>\n", "#version: 0.2\na b\nab c</w>",
    "#version: 0.2, 2 merges\r\na b\r\nab c</w>\r\n",
  ])
  func readsLinesHoweverTheyEnd(_ text: String) throws {
    let vocabulary = try Vocabulary(contentsOf: folder.write("v.txt", Data(text.utf8)))
    #expect(vocabulary.mergeCount == 2)
    #expect(vocabulary.symbols[512...] == ["ab", "abc</w>"])
  }

  @Test func readsNoMoreMergesThanTheFormatHas() throws {
    let header = "\"bpe_simple_vocab_16e6.txt#version: 0.2"
    let lines = [header] + (0..<Vocabulary.mergeLimit).map { _ in "a b" } + ["one line too many", "c"]
    let vocabulary = try Vocabulary(contentsOf: folder.write("v.txt", Data(lines.joined(separator: "\n").utf8)))
    #expect(vocabulary.size == 49_408 && vocabulary.origin == .clip)
  }

  @Test(arguments: ["v.txt", "v.txt.gz"])
  func writesWhatItReads(_ name: String) throws {
    let vocabulary = try Vocabulary([("a", "b"), ("ab", "c</w>"), ("Ġ", "é")], path: "test")
    let paths = ["1", "2"].map { folder.path($0 + name) }
    for path in paths { try vocabulary.write(to: path) }
    let read = try Vocabulary(contentsOf: paths[0])
    #expect(read.symbols == vocabulary.symbols && read.origin == .learned)
    let files = try paths.map { try Data(contentsOf: URL(filePath: $0)) }
    #expect(files[0] == files[1])
    #expect(files[0].starts(with: name.hasSuffix("gz") ? [0x1F, 0x8B] : Array("#version".utf8)))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path).count == 2)
  }

  @Test func replacesNoPipe() throws {
    let vocabulary = try Vocabulary([("a", "b")], path: "test")
    let pipe = try folder.pipe("pipe")
    for (path, found) in [(pipe, "it is not a file"), (folder.url.path, "it is a folder")] {
      #expect(throws: VocabularyError.unwritable(path: path, reason: found)) { try vocabulary.write(to: path) }
    }
  }

  @Test func namesWhatIsWrong() throws {
    let lost = folder.path("lost")
    #expect(throws: VocabularyError.unreadable(path: lost, reason: "there is no such file")) {
      try Vocabulary(contentsOf: lost)
    }
    let itself = folder.url.path
    #expect(throws: VocabularyError.unreadable(path: itself, reason: "it is a folder")) {
      try Vocabulary(contentsOf: itself)
    }
    let empty = try folder.write("empty", Data())
    #expect(throws: VocabularyError.empty(path: empty)) { try Vocabulary(contentsOf: empty) }
    let malformed = try folder.write("malformed", Data("#version\na b\na b c\n".utf8))
    #expect(throws: VocabularyError.malformed(path: malformed, line: 3, found: "a b c")) {
      try Vocabulary(contentsOf: malformed)
    }
    let unknown = try folder.write("unknown", Data("#version\na b\nab q\nab xy\n".utf8))
    #expect(throws: VocabularyError.unknownSymbol(path: unknown, line: 4, symbol: "xy")) {
      try Vocabulary(contentsOf: unknown)
    }
    let image = try folder.write("picture", Data((0..<4_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }))
    #expect(throws: VocabularyError.self) { try Vocabulary(contentsOf: image) }
    #expect(throws: VocabularyError.self) {
      try Vocabulary([("a", "b")], path: "").write(to: folder.path("no/folder/v.txt"))
    }
  }

  /// The first line tells a vocabulary from any other file, and how many merges there must be.
  @Test func checksTheHeader() throws {
    func read(_ text: String) throws -> Vocabulary {
      try Vocabulary(contentsOf: folder.write("v.txt", Data(text.utf8)))
    }
    let path = folder.path("v.txt")
    let page = "<html><head><title>404 Not Found</title></head></html>"
    #expect(throws: VocabularyError.noHeader(path: path, found: "“\(page)”")) { try read(page) }
    #expect(throws: VocabularyError.noHeader(path: path, found: "zero bytes")) {
      try read(String(repeating: "\0", count: 512))
    }
    for (text, promised, found) in [
      ("#version: 0.2\n", 1, 0), ("#version: 0.2, 3 merges\na b\nab c", 3, 2),
      ("#version: 0.2, 1 merges\na b\nb c", 1, 2), ("\"bpe_simple_vocab_16e6.txt#version: 0.2\na b\n", 48_894, 1),
    ] {
      #expect(throws: VocabularyError.mergesMissing(path: path, promised: promised, found: found)) { try read(text) }
    }
    #expect(try read("#version: 0.2\na b").origin == .unknown)
    // Bytes alone, as this release and earlier ones write them.
    for text in ["#version: 0.2, 0 merges", "#version: 0.2"] {
      let vocabulary = try read(text)
      #expect(vocabulary.size == 514 && vocabulary.origin == .learned)
    }
  }

  @Test func refusesATruncatedOrDamagedArchive() throws {
    let whole = folder.path("v.gz")
    try Vocabulary((0..<2_000).map { _ in ("a", "b") }, path: "").write(to: whole)
    let data = try Data(contentsOf: URL(filePath: whole))
    for count in [11, data.count / 2, data.count - 1] {
      let path = try folder.write("cut\(count).gz", data.prefix(count))
      #expect(throws: VocabularyError.self, "\(count) of \(data.count) bytes") { try Vocabulary(contentsOf: path) }
    }
    var altered = data
    altered[data.count / 2] ^= 0x40
    let path = try folder.write("altered.gz", altered)
    let error = try #require(throws: VocabularyError.self) { try Vocabulary(contentsOf: path) }
    #expect("\(error)".hasPrefix("vocabulary \(path): it is damaged ("), "\(error)")
    #expect("\(error)".ranges(of: path).count == 1, "\(error)")
  }
}
