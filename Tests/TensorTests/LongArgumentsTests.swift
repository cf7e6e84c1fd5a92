import TestSupport
import Testing

/// What the log of the tests shows of arguments.
@Suite struct LongArgumentsTests {
  @Test func texts() {
    #expect(String(describingForTest: "a\n\"\u{0}" as LongText) == #""a\n\"\0""#)
    let text = String(repeating: "[", count: 1000)
    #expect(String(describingForTest: LongText(text)) == "\"\(text)\"")
    #expect(String(describingForTest: LongText(text + "[")) == #""[[[[[[[[[[[[[[[[[[[["…, 1001 bytes"#)
  }

  @Test func bytes() {
    #expect(String(describingForTest: [1, 255] as LongBytes) == "[1, 255]")
    let zeros = [UInt8](repeating: 0, count: 100)
    #expect(String(describingForTest: LongBytes(zeros)) == "\(zeros)")
    #expect(String(describingForTest: LongBytes(zeros + [1])) == "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]…, 101 bytes")
  }
}
