import TestSupport
import Testing

@testable import Launch

@Suite struct DelimitedReaderTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  func read(_ bytes: [UInt8], separator: Character = ",", quoted: Bool = true) throws -> [DelimitedReader.Record] {
    let path = try folder.write("t.csv", bytes)
    var reader = try DelimitedReader(path, separator: separator.asciiValue!, quoted: quoted)
    var records: [DelimitedReader.Record] = []
    while let record = try reader.next() { records.append(record) }
    return records
  }

  func fields(_ text: String, separator: Character = ",", quoted: Bool = true) throws -> [[String]] {
    try read(Array(text.utf8), separator: separator, quoted: quoted).map {
      $0.fields.map { String(decoding: $0, as: UTF8.self) }
    }
  }

  @Test(arguments: [
    ("a,b\nc,d\n", [["a", "b"], ["c", "d"]]),
    ("a,b\r\nc,d", [["a", "b"], ["c", "d"]]),
    ("a,b\rc,d\r", [["a", "b"], ["c", "d"]]),
    ("\u{FEFF}a,b", [["a", "b"]]),
    ("a,,b,\n,", [["a", "", "b", ""], ["", ""]]),
    ("\n\r\n\na\n\n", [["a"]]),
    ("", []),
    ("\"a,b\",\"c\nd\",\"say \"\"hi\"\"\"\n", [["a,b", "c\nd", "say \"hi\""]]),
    ("\"\",\"\"\n", [["", ""]]),
    ("a \"b\" c,it's\n", [["a \"b\" c", "it's"]]),
    ("\"x\"\r\n\"y\"\r\n", [["x"], ["y"]]),
    ("\"a\r\nb\",c\n", [["a\r\nb", "c"]]),
    ("日本,🦊\u{FE0F}\n", [["日本", "🦊\u{FE0F}"]]),
  ])
  func records(_ text: String, _ expected: [[String]]) throws {
    #expect(try fields(text) == expected)
  }

  @Test func quotesAsCharacters() throws {
    #expect(try fields("\"a\tb\"c\n\"\n", separator: "\t", quoted: false) == [["\"a", "b\"c"], ["\""]])
  }

  @Test func linesAreCountedThroughQuotes() throws {
    let text = "h\n\"a\n\nb\"\n\n\"c\rd\r\ne\"\nf\r\ng\rh"
    #expect(try read(Array(text.utf8)).map(\.line) == [1, 2, 6, 9, 10, 11])
  }

  @Test(
    arguments: [
      ("a\n\"b", "t.csv:2: a quote is opened and never closed"),
      ("a\n\nb,\"c\nd", "t.csv:3: a quote is opened and never closed"),
      ("\"a\"b", "t.csv:1: text follows a closing quote"),
      ("\"a\" ,b", "t.csv:1: text follows a closing quote"),
      (LongText("x\n\"" + String(repeating: "y", count: 2 << 20)), "t.csv:2: a field is longer than 1048576 bytes"),
      (LongText(String(repeating: "y", count: 2 << 20)), "t.csv:1: a field is longer than 1048576 bytes"),
    ] as [(LongText, String)])
  func refusals(_ text: LongText, _ words: String) throws {
    let error = #expect(throws: UserError.self) { _ = try fields(text.string) }
    #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
    #expect(error?.description.contains("--no-quotes") == true)
  }

  @Test func anyBytesPass() throws {
    #expect(try read([0xFF, 0x2C, 0x00, 0x0A, 0xC3]).map(\.fields) == [[[0xFF], [0x00]], [[0xC3]]])
  }

  /// The reader reads blocks of 256 KiB; quotes, line ends and characters cross their borders.
  @Test func recordsCrossBlocks() throws {
    let pattern = "\"a\"\"é\r\n,\",b\r\n"
    let text = String(repeating: pattern, count: 40_000)
    let records = try fields(text)
    #expect(records.count == 40_000)
    #expect(records.allSatisfy { $0 == ["a\"é\r\n,", "b"] })
  }
}
