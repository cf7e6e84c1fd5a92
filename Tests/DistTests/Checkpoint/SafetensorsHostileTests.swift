import Dist
import Foundation
import Tensor
import TestSupport
import Testing

/// Inconsistent files are refused when they are opened, with a reason that names the problem.
@Suite struct SafetensorsHostileTests {
  let folder = try! TemporaryFolder()

  private func refusal(_ bytes: [UInt8]) throws -> String {
    let path = try folder.write("hostile.safetensors", bytes)
    let error = #expect(throws: SafetensorsError.self) { try SafetensorsFile(path) }
    #expect(error?.status == .badData)
    #expect(error?.description.hasPrefix("safetensors file \(path): ") == true)
    return error?.reason ?? ""
  }

  private func refusal(_ header: String, data: Int = 8, length: UInt64? = nil) throws -> String {
    let length = length ?? UInt64(header.utf8.count)
    let prefix = (0..<8).map { UInt8(truncatingIfNeeded: length >> ($0 * 8)) }
    return try refusal(prefix + Array(header.utf8) + [UInt8](repeating: 0, count: data))
  }

  @Test(arguments: 0..<8)
  func tooShortForALength(count: Int) throws {
    #expect(try refusal([UInt8](repeating: 0, count: count)) == "it has \(count) bytes, too few for a header")
  }

  @Test func lengthBeyondTheFile() throws {
    #expect(try refusal("{}", data: 0, length: 3) == "its header claims 3 bytes, the file has 2 after the length")
    #expect(
      try refusal("{}", length: 100_000_001).hasPrefix("its header claims 100000001 bytes, more than the 100000000"))
    // Values of two bytes each would take fifty times the header's size.
    let digits = Array(repeating: "1", count: 2000).joined(separator: ",")
    #expect(try refusal("{\"a\":{\"shape\":[\(digits)]}}").hasSuffix("it has too many values for its size"))
    #expect(try refusal("{}", length: .max).hasPrefix("its header claims 18446744073709551615 bytes"))
    #expect(try refusal("", data: 0) == "its header is not JSON as expected: byte 0: the text ends too early")
  }

  /// A sound file is truncated at every length.
  @Test func truncatedAnywhere() throws {
    let good = folder.path("good.safetensors")
    try SafetensorsFile.write(
      [.init("a", integers: [1, 2], shape: .init(2)), .init("b", integers: [3], shape: .init(1), type: .uint8)],
      metadata: ["k": "v"], to: good)
    let bytes = Array(try Data(contentsOf: URL(filePath: good)))
    for count in 0..<bytes.count { #expect(try !refusal(Array(bytes.prefix(count))).isEmpty) }
    #expect(try refusal(bytes.dropLast()).hasSuffix("the file is truncated"))
    #expect(try refusal(bytes + [0]) == "1 bytes after b belong to no tensor")
  }

  @Test(
    arguments: [
      ("[]", "its header is an array, expected an object"),
      ("{", "byte 1: the text ends too early"),
      ("{} x", "byte 3: something follows the end of the document"),
      ("{\"a\":1,}", "byte 7: expected a key in quotes"),
      ("{\"a\" 1}", "byte 5: expected ':'"),
      ("{\"a\":[1 2]}", "byte 8: expected ','"),
      ("{\"a\":tru}", "byte 5: expected a value"),
      ("{\"a\":01}", "byte 5: expected a value"),
      ("{\"a\":\"\\x\"}", "byte 8: an unknown escape"),
      ("{\"a\":\"\\uD800\"}", "byte 12: half of a surrogate pair"),
      ("{\"a\":\"\\u12\"}", "byte 8: expected four hexadecimal digits"),
      ("{\"a\":\"\n\"}", "byte 6: a control character stands in a string"),
      ("{\"a\":\"b", "byte 7: a string does not end"),
      ("{\"a\":\"b\\", "byte 8: a string does not end"),
      ("{\"a\":{}, \"a\":{}}", "byte 12: the key \"a\" appears twice"),
      ("{\"a\":{}, \"\\u0061\":{}}", "byte 17: the key \"a\" appears twice"),
      (LongText(String(repeating: "[", count: 100_000)), "byte 32: nested deeper than 32"),
    ] as [(LongText, String)])
  func brokenJSON(header: LongText, reason: String) throws {
    let found = try refusal(header.string)
    #expect(found.hasSuffix(reason), "\(found)")
  }

  @Test func textThatIsNotUTF8() throws {
    let header = Array("{\"".utf8) + [0xFF] + Array("\":{}}".utf8)
    let bytes = [UInt8(header.count), 0, 0, 0, 0, 0, 0, 0] + header
    #expect(try refusal(bytes).hasSuffix("byte 3: a string is not UTF-8"))
  }

  @Test(arguments: [
    (#""a":7"#, "the entry of tensor a is a number, expected an object"),
    (#""a":{}"#, "tensor a has the fields ; expected data_offsets, dtype, shape"),
    (
      #""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":0}"#,
      "tensor a has the fields data_offsets, dtype, shape, x; expected data_offsets, dtype, shape"
    ),
    (#""a":{"dtype":4,"shape":[2],"data_offsets":[0,8]}"#, "tensor a: dtype is not a string"),
    (
      #""a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}"#,
      "tensor a has dtype F31; known are F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL"
    ),
    (#""a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}"#, "tensor a: shape is not an array"),
    (
      #""a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}"#,
      "tensor a: shape holds something other than integers from 0 to 2⁶³ − 1"
    ),
    (
      #""a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}"#,
      "tensor a: shape holds something other than integers from 0 to 2⁶³ − 1"
    ),
    (
      #""a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}"#,
      "tensor a: shape holds something other than integers from 0 to 2⁶³ − 1"
    ),
    (
      #""a":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,8]}"#,
      "tensor a: the shape [4611686018427387904, 8] is too large"
    ),
    (
      #""a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}"#,
      "tensor a: data_offsets holds something other than integers from 0 to 2⁶³ − 1"
    ),
    (
      #""a":{"dtype":"F32","shape":[2],"data_offsets":[0,9223372036854775808]}"#,
      "tensor a: data_offsets holds something other than integers from 0 to 2⁶³ − 1"
    ),
    (
      #""a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#,
      "tensor a: data_offsets are [8, 0], expected a start and an end"
    ),
    (
      #""a":{"dtype":"F32","shape":[2],"data_offsets":[0]}"#,
      "tensor a: data_offsets are [0], expected a start and an end"
    ),
    (
      #""a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#,
      "tensor a: F32 of shape [3] takes 12 bytes, data_offsets give it 8"
    ),
    (
      #""a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#,
      "tensor a ends at byte 16 of the data, which has 8: the file is truncated"
    ),
    (
      #""a":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}"#,
      "tensor a ends at byte 9223372036854775807 of the data, which has 8: the file is truncated"
    ),
    (#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#, "4 bytes after a belong to no tensor"),
    (
      #""a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#,
      "4 bytes between the header and a belong to no tensor"
    ),
    (
      #""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[3],"data_offsets":[5,8]}"#,
      "1 bytes between a and b belong to no tensor"
    ),
    (
      #""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#,
      "the bytes of tensor b overlap those of a"
    ),
    (
      #""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#,
      "the bytes of tensor b overlap those of a"
    ),
    (#""__metadata__":"x""#, "__metadata__ is a string, expected an object"),
    (#""__metadata__":{"k":null}"#, "__metadata__ key k is null, expected a string"),
  ])
  func inconsistentEntries(members: String, reason: String) throws {
    #expect(try refusal("{\(members)}") == reason)
  }

  /// Five sizes are legal in the format: the file opens, the tensor cannot be used.
  @Test func tooManySizes() throws {
    let header = #"{"a":{"dtype":"U8","shape":[1,1,1,1,2],"data_offsets":[0,2]}}"#
    let path = try folder.write(
      "five.safetensors", [UInt8(header.utf8.count), 0, 0, 0, 0, 0, 0, 0] + Array(header.utf8) + [5, 6])
    let file = try SafetensorsFile(path)
    let error = #expect(throws: SafetensorsError.self) { try file.shape(of: "a") }
    #expect(error?.reason == "tensor a has the shape [1, 1, 1, 1, 2]; at most four sizes can be used")
    #expect(try file.integers("a") == [5, 6])
  }
}
