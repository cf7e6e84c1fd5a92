import Dist
import Foundation
import TestSupport
import Testing

/// A manifest whose digest is right and whose numbers are not is refused before anything is computed from them.
@Suite struct CacheManifestTests {
  let folder = try! TemporaryFolder()

  static let whole = """
    {"description":{"corpus":{"captions":3,"name":"c","samples":4,"sha256":"S"},"image":{},"seed":0,"teacher":{
    "config":"{}","path":"t","sha256":"T","vocabulary_sha256":"V","width":2},"views":1},"digest":"","format":1,
    "kernel":"K","logit_scale":1,"part_samples":2,"type":"fp32","version":"9.9","parts":[
    {"file":"part-00000.h5","first":0,"end":2,"first_caption":0,"end_caption":1,"image_offset":0,"text_offset":16,
    "bytes":24,"sha256":"A"},
    {"file":"part-00001.h5","first":2,"end":4,"first_caption":1,"end_caption":3,"image_offset":0,"text_offset":16,
    "bytes":32,"sha256":"B"}]}
    """

  private func read(_ text: String) throws -> CacheManifest? {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    let manifest = try JSONDecoder().decode(CacheManifest.self, from: Data(text.utf8))
    let digest = SHA256.hash(try encoder.encode(manifest)).hexadecimal
    try folder.write("cache.json", text.replacing("\"digest\":\"\"", with: "\"digest\":\"\(digest)\"").utf8)
    return try CacheManifest.read(folder.url.path)
  }

  @Test func theUnchangedOneIsFine() throws { #expect(try read(Self.whole)?.isWhole == true) }

  @Test(arguments: [
    ("\"end\":2,", "\"end\":-1,", "part 0, part-00000.h5, does not have the expected samples and captions"),
    ("\"width\":2", "\"width\":9223372036854775807", "part-00000.h5 claims numbers outside of the file"),
    ("\"views\":1", "\"views\":4611686018427387904", "part-00000.h5 claims numbers outside of the file"),
    ("\"image_offset\":0", "\"image_offset\":9223372036854775807", "part-00000.h5 claims numbers outside of the file"),
    ("\"part_samples\":2", "\"part_samples\":9223372036854775807", "it lists 2 parts of 1"),
    ("\"samples\":4", "\"samples\":9223372036854775807", "it lists 2 parts of 4611686018427387904"),
    ("\"samples\":4", "\"samples\":-4", "a count is not positive"),
  ])
  func contradictionsAreRefused(text: String, other: String, problem: String) throws {
    #expect(Self.whole.contains(text))
    let error = #expect(throws: CacheError.self) { try read(Self.whole.replacing(text, with: other)) }
    #expect(error?.problems == ["cache.json: \(problem)"])
  }
}
