import Dist
import Foundation
import TestSupport
import Testing

@Suite struct MessageTextTests {
  @Test(arguments: [
    ("a\tb\nc é 👩‍🚀", "a\tb\nc é 👩‍🚀"), ("\u{1B}[31mred\u{7}", "\\u{1B}[31mred\\u{7}"),
    ("one\r\ntwo\r", "one\\u{D}\ntwo\\u{D}"), ("\u{7F}\u{9B}2J", "\\u{7F}\\u{9B}2J"),
    ("gpj.\u{202E}txt\u{2069}", "gpj.\\u{202E}txt\\u{2069}"),
  ])
  func terminalsObeyNoMessage(_ text: String, _ shown: String) {
    #expect(Array(text.printable.utf8) == Array(shown.utf8))
  }

  @Test func terminalsObeyNoQuotedText() {
    #expect(StrictJSON.quote("\u{1B}\u{7F}\u{9B}é") == #""\u001b\u007f\u009bé""#)
  }

  private struct Point: Decodable { var x: [Int] }

  @Test(arguments: [
    ("{}", "the key \"x\" is missing"), ("{\"x\": [1, \"a\"]}", "x.1: Expected to decode Int but found "),
    ("{\"x\": ]", "not valid JSON"),
  ])
  func errorsOfDecodersAreExplained(_ json: String, _ words: String) {
    let error = #expect(throws: DecodingError.self) { try JSONDecoder().decode(Point.self, from: Data(json.utf8)) }
    let explanation = error?.explanation ?? ""
    #expect(explanation.contains(words) && !explanation.contains("Error"), "\(explanation)")
    #expect(error?.exitStatus == .badData)
  }

  @Test func errorsOfFoundationAreExplained() throws {
    let folder = try TemporaryFolder()
    let error = #expect(throws: (any Error).self) { try Data(contentsOf: folder.url) }
    #expect(error?.explanation == "Is a directory" && error?.exitStatus == .inputOutput)
    let lost = #expect(throws: (any Error).self) { try Data(contentsOf: folder.url.appending(path: "none")) }
    #expect(lost?.explanation == "No such file or directory")
    let missing = #expect(throws: FileError.self) { try TextFile.read(folder.path("none")) }
    #expect(missing?.explanation == missing?.description && missing?.exitStatus == .inputOutput)
  }
}
