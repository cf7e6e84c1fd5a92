import Testing

@testable import Launch

@Suite struct BraceExpansionTests {
  /// Expansions by Python's braceexpand; bash gives the same for most of them.
  static let expansions: [(String, [String])] = [
    ("a.tar", ["a.tar"]), ("a-{0..3}.tar", ["a-0.tar", "a-1.tar", "a-2.tar", "a-3.tar"]),
    ("{00008..00011}", ["00008", "00009", "00010", "00011"]), ("{08..11}x", ["08x", "09x", "10x", "11x"]),
    ("{8..011}", ["008", "009", "010", "011"]), ("{3..1}", ["3", "2", "1"]), ("{0..10..5}", ["0", "5", "10"]),
    ("{10..0..5}", ["10", "5", "0"]), ("{-1..1}", ["-1", "0", "1"]), ("{-01..1}", ["-01", "000", "001"]),
    ("{a..d}", ["a", "b", "c", "d"]), ("{d..a..2}", ["d", "b"]), ("{5..5}", ["5"]),
    ("{train,val}-{0..1}", ["train-0", "train-1", "val-0", "val-1"]), ("{a,}b", ["ab", "b"]), ("{,}", ["", ""]),
    ("{a,b{1..2},{c,d}e}", ["a", "b1", "b2", "ce", "de"]), ("a,b", ["a,b"]), ("{x}", ["{x}"]), ("{}", ["{}"]),
    ("{{0..1}}", ["{0}", "{1}"]), ("{1..x}", ["{1..x}"]), ("{0..1..x}", ["{0..1..x}"]), ("{1...3}", ["{1...3}"]),
    ("s/{00..01}/{é,🦊}", ["s/00/é", "s/00/🦊", "s/01/é", "s/01/🦊"]),
  ]

  @Test(arguments: expansions)
  func names(_ pattern: String, _ names: [String]) throws { #expect(try BraceExpansion.names(pattern) == names) }

  static let refusals: [(String, String)] = [
    ("a{0..3", "opens a brace that is not closed"), ("{a,{b,c}", "opens a brace that is not closed"),
    ("a}b", "closes a brace that was not opened"), ("{a}}", "closes a brace that was not opened"),
    ("{0..99999999999}", "stands for more than 1048576 names"),
    ("{0..9999}{0..9999}", "stands for more than 1048576 names"),
    ("{{0..999999},{0..999999}}", "stands for more than 1048576 names"),
    (String(repeating: "{", count: 40), "nests braces deeper than 16"),
    ("{-999999999999999999..999999999999999999}", "stands for more than 1048576 names"),
  ]

  @Test(arguments: refusals)
  func refused(_ pattern: String, _ reason: String) {
    #expect(throws: ImportReason(reason)) { try BraceExpansion.names(pattern) }
  }

  @Test func aWholeSet() throws {
    let names = try BraceExpansion.names("cc3m-{00000..00331}.tar")
    #expect(names.count == 332 && names.first == "cc3m-00000.tar" && names.last == "cc3m-00331.tar")
  }
}
