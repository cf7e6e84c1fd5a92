import Dist
import Foundation
import Tensor
import TestSupport
import Testing

/// Inconsistent manifests are refused before a part is opened.
@Suite struct CheckpointManifestTests {
  let folder = try! TemporaryFolder()

  static let whole = """
    {"format":2,"parameters":[{"name":"a","shape":[2,3]},{"name":"b","shape":[]}],"parts":[
    {"bytes":3,"file":"part-00000-of-00002.h5","ranges":[[0,2],[5,6]],"sha256":"SHA"},
    {"bytes":3,"file":"part-00001-of-00002.h5","ranges":[[2,5],[6,7]],"sha256":"SHA"}],
    "record":{"arrays":[{"name":"x","shape":[2],"values":[1,"nan"]}],"kernel":"K","run":"{}","samples":2,"step":1,
    "threads":1,"version":"9.9"}}
    """.replacing("SHA", with: digest(Array("abc".utf8)))

  static func digest(_ bytes: [UInt8]) -> String { SHA256.hash(bytes).hexadecimal }

  private func checkpoint(_ manifest: String) throws -> Checkpoint {
    let bytes = Array(manifest.utf8)
    try folder.write("manifest.json", bytes)
    try folder.write("manifest.sha256", Array("\(Self.digest(bytes))  manifest.json\n".utf8))
    for part in 0..<2 { try folder.write("part-0000\(part)-of-00002.h5", Array("abc".utf8)) }
    return try Checkpoint.open(folder.url.path)
  }

  private func problems(_ body: () throws -> Checkpoint) -> [String] {
    #expect(throws: CheckpointError.self) { try body() }?.problems ?? []
  }

  @Test func theUnchangedOneIsFine() throws {
    let record = try checkpoint(Self.whole).manifest.record
    #expect(record.step == 1 && record.arrays[0].values[1].isNaN)
    #expect(record.arithmetic == nil)
  }

  @Test func theArithmeticIsRead() throws {
    let text = #"[{"kernels":3,"libraries":[],"precision":"bf16","products":"OpenBLAS"}],"kernel":"K""#
    let record = try checkpoint(Self.whole.replacing(#""kernel":"K""#, with: #""arithmetic":\#(text)"#)).manifest.record
    #expect(record.arithmetic?.map(\.text) == ["bf16, kernels 3, sgemm by OpenBLAS"])
  }

  @Test(arguments: [
    (
      #""format":2"#, #""format":1"#,
      "it has format 1, this program reads 2; use the version that wrote it, 9.9"
    ),
    (#""format":2"#, #""format":2,"jobRanks":1"#, "it has 2 parts of 1 ranks"),
    (#""step":1"#, #""step":-1"#, "step is -1, expected 0 to 9007199254740992"),
    (
      #""step":1"#, #""step":9223372036854775807"#,
      "step is 9223372036854775807, expected 0 to 9007199254740992"
    ),
    (
      #""samples":2"#, #""samples":9007199254740993"#,
      "samples is 9007199254740993, expected 0 to 9007199254740992"
    ),
    (
      #""step":1"#, #""step":1,"passedOver":9223372036854775807"#,
      "passedOver is 9223372036854775807, expected 0 to 9007199254740992"
    ),
    (
      #""shape":[]}]"#, #""shape":[4611686018427387904]}]"#,
      "the parameters have 4611686018427387910 scalars, more than 2⁴⁰"
    ),
    (#""name":"b""#, #""name":"a""#, "parameter a is listed twice"),
    (#""shape":[]}]"#, #""shape":[-1]}]"#, "parameter b has the shape [-1]"),
    (#""shape":[]}]"#, #""shape":[1,1,1,1,1]}]"#, "parameter b has the shape [1, 1, 1, 1, 1]"),
    (
      #""shape":[]}]"#, #""shape":[4611686018427387904,2]}]"#,
      "parameter b has the shape [4611686018427387904, 2]"
    ),
    (#""shape":[]}]"#, #""shape":[9223372036854775807]}]"#, "parameter b has the shape [9223372036854775807]"),
    (#""shape":[2],"#, #""shape":[3],"#, "array x has the shape [3] and 2 values"),
    (
      "part-00001-of-00002.h5", "../part-00001-of-00002.h5",
      "part 1 of 2 is in ../part-00001-of-00002.h5, expected part-00001-of-00002.h5"
    ),
    ("[2,5]", "[1,5]", "the parts' ranges overlap or leave gaps at 2"),
    ("[2,5]", "[2,4]", "the parts' ranges overlap or leave gaps at 4"),
    ("[0,2]", "[-1,2]", "the parts' ranges overlap or leave gaps at 0"),
    ("[0,2],[5,6]", "[5,6],[0,2]", "the ranges of part 0 do not rise"),
    ("[6,7]", "[6,8]", "the parts hold 8 scalars, the parameters have 7"),
    ("[6,7]", "[6,6]", "the parts hold 6 scalars, the parameters have 7"),
  ])
  func contradictionsAreRefused(text: String, other: String, problem: String) throws {
    #expect(Self.whole.contains(text))
    #expect(problems { try checkpoint(Self.whole.replacing(text, with: other)) } == ["manifest.json: \(problem)"])
  }

  @Test(
    arguments: [
      "", "{}", "[1]", "{\"format\":\"1\"}", LongText(whole.replacing("[2,5]", with: "[5,2]")),
      LongText(whole.replacing("\"kernel\":", with: "\"arithmetic\":[1],\"kernel\":")),
      LongText(String(repeating: "[", count: 100_000)),
    ] as [LongText])
  func otherDocumentsAreRefused(text: LongText) throws {
    let found = problems { try checkpoint(text.string) }
    #expect(found.count == 1 && found[0].hasPrefix("manifest.json cannot be understood: "))
  }

  @Test func anAlteredManifestIsSeen() throws {
    _ = try checkpoint(Self.whole)
    try damage(folder.path("manifest.json")) { $0[11] ^= 1 }
    #expect(
      problems { try Checkpoint.open(folder.url.path) }
        == ["manifest.json was altered: its SHA-256 is not the one in manifest.sha256"])
  }

  @Test(arguments: [
    ("manifest.json", "it has no manifest.json, so it is no checkpoint; "),
    ("manifest.sha256", "manifest.sha256: No such file or directory"),
  ])
  func aMissingManifestIsSeen(name: String, words: String) throws {
    _ = try checkpoint(Self.whole)
    try FileManager.default.removeItem(atPath: folder.path(name))
    let error = #expect(throws: CheckpointError.self) { try Checkpoint.open(folder.url.path) }
    #expect(error?.status == .inputOutput)
    #expect(error?.description.contains(words) == true)
  }
}
