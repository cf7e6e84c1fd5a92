import Dist
import Foundation
import TestSupport
import Testing

/// A truncated, altered or missing shard is found and named, and never crashes its reader.
@Suite struct DatasetDamageTests {
  let folder: TemporaryFolder
  let dataset: String
  let shard: String
  let whole: Data

  init() throws {
    folder = try TemporaryFolder()
    dataset = folder.path("c")
    var writer = try DatasetWriter(name: "c", folder: dataset, labeled: true, limits: .init(samples: 10))
    for sample in DatasetTests.samples(30, labeled: true) { try writer.append(sample) }
    _ = try writer.finish()
    shard = dataset + "/shard-00001.h5"
    whole = try Data(contentsOf: URL(filePath: shard))
  }

  func put(_ bytes: Data) throws { try bytes.write(to: URL(filePath: shard)) }

  /// Expects that opening names the shard, and that verifying finds this shard only.
  func expectDamage(_ words: String, openFinds check: Dataset.Check, _ what: String) throws {
    let error = #expect(throws: DatasetError.self, "\(what)") { _ = try Dataset.open(dataset, check: check) }
    #expect(error?.place == shard)
    let verdicts = try Dataset.verify(dataset)
    #expect(verdicts.map { $0.problem == nil } == [true, false, true], "\(what)")
    #expect(verdicts[1].file == "shard-00001.h5")
    #expect(verdicts[1].problem?.contains(words) == true, "\(what): \(verdicts[1].problem ?? "")")
  }

  @Test func truncatedAtManyLengths() throws {
    for length in stride(from: 0, to: whole.count, by: 211) {
      try put(whole.prefix(length))
      try expectDamage("truncated", openFinds: .sizes, "cut to \(length) of \(whole.count)")
    }
    try put(whole.dropLast())
    try expectDamage("truncated", openFinds: .sizes, "cut by one byte")
    try put(whole + [0])
    try expectDamage("altered", openFinds: .sizes, "one byte longer")
  }

  @Test func alteredAtManyBytes() throws {
    for position in stride(from: 0, to: whole.count, by: 307) {
      var bytes = whole
      bytes[position] ^= 0x55
      try put(bytes)
      try expectDamage("SHA-256", openFinds: .checksums, "byte \(position) of \(whole.count)")
    }
  }

  /// An index has two checksums of each shard. Whatever opening refuses, verifying refuses too.
  @Test(arguments: [("sha256", Dataset.Check.checksums), ("sha256_without_images", .sizes)])
  func aChecksumThatLies(_ key: String, _ check: Dataset.Check) throws {
    let entry = try Dataset.open(dataset).index.shards[1]
    let sum = key == "sha256" ? entry.sha256 : entry.restSHA256
    let json = try String(contentsOfFile: dataset + "/corpus.json", encoding: .utf8)
    try json.replacing("\"\(sum)\"", with: "\"\(sum.dropLast(2))\"")
      .write(toFile: dataset + "/corpus.json", atomically: true, encoding: .utf8)
    try expectDamage("the index says \(sum.dropLast(2))", openFinds: check, key)
  }

  @Test func missing() throws {
    try FileManager.default.removeItem(atPath: shard)
    try expectDamage("missing", openFinds: .sizes, "removed")
  }

  /// Opening without the images' checksums still finds every altered byte outside of the images.
  @Test func openWithoutChecksumsFindsAllButImages() throws {
    let images = try Dataset.open(dataset).index.shards[1]
    let extent = images.imageOffset..<images.imageOffset + images.imageBytes
    for position in stride(from: 0, to: whole.count, by: 61) {
      var bytes = whole
      bytes[position] ^= 0x10
      try put(bytes)
      if extent.contains(position) {
        let dataset = try Dataset.open(dataset)
        for i in 10..<20 { _ = try dataset.image(i) }
      } else {
        let error = #expect(throws: DatasetError.self) { _ = try Dataset.open(dataset) }
        #expect(error?.place == shard)
      }
    }
  }

  @Test func aShardOfAnotherDataset() throws {
    var writer = try DatasetWriter(name: "other", folder: folder.path("o"), labeled: true, limits: .init(samples: 10))
    for sample in DatasetTests.samples(30, labeled: true) { try writer.append(sample) }
    _ = try writer.finish()
    var json = try String(contentsOfFile: dataset + "/corpus.json", encoding: .utf8)
    json.replace("\"name\" : \"c\"", with: "\"name\" : \"other\"")
    try json.write(toFile: dataset + "/corpus.json", atomically: true, encoding: .utf8)
    let error = #expect(throws: DatasetError.self) { _ = try Dataset.open(dataset) }
    #expect(error?.reason == "belongs to the dataset \"c\", not to \"other\"")
  }

  @Test func cutAfterItWasOpened() throws {
    let open = try Dataset.open(dataset)
    _ = try open.image(10)
    let handle = try #require(FileHandle(forUpdatingAtPath: shard))
    try handle.truncate(atOffset: 100)
    try handle.close()
    let error = #expect(throws: DatasetError.self) { _ = try open.image(19) }
    #expect(error?.place == shard)
    #expect(error?.reason.contains("ends within the image of \"key/19 é\"") == true)
  }

  @Test(arguments: [
    ("", "not the index"), ("{}", "the key \"schema\" is missing"), ("[1]", "not the index"),
    ("{\"schema\": 3}", "schema"), ("\u{0}\u{1}", "not the index"),
  ])
  func aBadIndex(_ text: String, _ words: String) throws {
    try text.write(toFile: dataset + "/corpus.json", atomically: true, encoding: .utf8)
    let error = #expect(throws: DatasetError.self) { _ = try Dataset.open(dataset) }
    #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
  }

  @Test(arguments: [
    ("kinship/corpus/1", "kinship/dataset/9", "schema"),
    ("\"samples\" : 10", "\"samples\" : -10", "negative"),
    ("\"samples\" : 10", "\"samples\" : 9223372036854775807", "claims 9223372036854775807 samples"),
    ("\"captions\" : ", "\"captions\" : 900000", "captions in"),
    ("\"file_bytes\" : ", "\"file_bytes\" : 9000000000000", "totals"),
    ("\"samples\" : 10", "\"samples\" : 9", "totals"),
    ("\"image_offset\" : ", "\"image_offset\" : 1000000", "outside of the file"),
    ("shard-00001.h5", "../shard-00001.h5", "not a plain file name"),
    ("shard-00001.h5", "shard-00000.h5", "named twice"),
    ("\"samples\" : 30", "\"samples\" : 31", "totals"),
  ])
  func anIndexThatLies(_ old: String, _ new: String, _ words: String) throws {
    var json = try String(contentsOfFile: dataset + "/corpus.json", encoding: .utf8)
    #expect(json.contains(old))
    json.replace(old, with: new)
    try json.write(toFile: dataset + "/corpus.json", atomically: true, encoding: .utf8)
    let error = #expect(throws: DatasetError.self) { _ = try Dataset.open(dataset) }
    #expect(error?.reason.contains(words) == true, "\(error?.description ?? "")")
  }

  @Test func noIndex() throws {
    try FileManager.default.removeItem(atPath: dataset + "/corpus.json")
    let error = #expect(throws: DatasetError.self) { _ = try Dataset.open(dataset) }
    #expect(error?.reason.contains("an unfinished import") == true)
    #expect(throws: DatasetError.self) { _ = try Dataset.open(folder.path("nowhere")) }
  }
}
