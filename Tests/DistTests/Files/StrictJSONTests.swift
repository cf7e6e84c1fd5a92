import Dist
import Testing

@Suite struct StrictJSONTests {
  @Test(arguments: [
    ("0", StrictJSON.integer(0)), ("-0", .integer(0)), ("17", .integer(17)), ("-250", .integer(-250)),
    ("9223372036854775807", .integer(.max)), ("9223372036854775808", .number("9223372036854775808")),
    ("0.5", .number("0.5")), ("-1.25e-3", .number("-1.25e-3")), ("1E+2", .number("1E+2")), ("3e0", .number("3e0")),
    (" \t\r\n 4 \n", .integer(4)), ("NaN", .number("NaN")), ("Infinity", .number("Infinity")),
    ("-Infinity", .number("-Infinity")),
  ])
  func numbers(_ text: String, _ expected: StrictJSON) throws {
    #expect(try StrictJSON.parse(Array(text.utf8)) == expected)
    #expect(try StrictJSON.parse(Array("[\(text),\(text)]".utf8)) == .array([expected, expected]))
  }

  @Test(arguments: [
    "01", "-", "+1", ".5", "1.", "1.e2", "1e", "1e+", "--1", "1-2", "1.2.3", "1e2e3", "0x1", "-a", "00", "1+", "nan",
    "NaN1", "NaNs", "Inf", "-Inf", "+Infinity", "-NaN", "infinity", "１",
  ])
  func noNumbers(_ text: String) {
    #expect(throws: StrictJSON.Problem.self) { try StrictJSON.parse(Array(text.utf8)) }
    #expect(throws: StrictJSON.Problem.self) { try StrictJSON.parse(Array("[\(text), 1]".utf8)) }
  }

  @Test func aByteOrderMarkStandsBeforeTheDocumentOnly() throws {
    #expect(try StrictJSON.parse(Array("\u{FEFF}[1]".utf8)) == .array([.integer(1)]))
    let error = #expect(throws: StrictJSON.Problem.self) { try StrictJSON.parse(Array("\u{FEFF}\u{FEFF}1".utf8)) }
    #expect(error?.offset == 3)
  }
}
