import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// A dataset stays whole until the one that replaces it is complete.
@Suite struct ReplaceTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Images of one file. A key that comes twice is found only when the dataset is written.
  struct Source: ImportSource {
    let path: String
    let keys: [String]
    let labels: [String] = []
    let labeled = false
    var count: Int { keys.count }

    func entries() -> ImportReader {
      var keys = keys.makeIterator()
      return { keys.next().map { .item(ImportItem(place: $0, path: path, key: $0, captions: ["of \($0)"])) } }
    }
  }

  @discardableResult
  func write(_ keys: [String], missing: Bool = false) throws -> DatasetImporter.Outcome {
    let image = try folder.write("image.png", TestImage.png())
    let importer = DatasetImporter(
      name: "c", folder: folder.path("c"), origin: "keys", limits: .init(samples: 1), maxPixels: 100, workers: 2,
      overwrite: true)
    return try importer.run(Source(path: missing ? folder.path("nowhere.png") : image, keys: keys))
  }

  func files() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path("c")).sorted()
  }

  func expect(keys: [String]) throws {
    let dataset = try Dataset.open(folder.path("c"), check: .checksums)
    #expect((0..<dataset.count).map { dataset.key($0) } == keys)
  }

  @Test func shardsTakeNamesThatAreFree() throws {
    try write(["a", "b"])
    #expect(try files() == ["corpus.json", "shard-00000.h5", "shard-00001.h5"])
    try write(["c", "d", "e"])
    #expect(try files() == ["corpus.json", "shard-00002.h5", "shard-00003.h5", "shard-00004.h5"])
    try expect(keys: ["c", "d", "e"])
    try write(["f", "g", "h"])
    #expect(try files() == ["corpus.json", "shard-00000.h5", "shard-00001.h5", "shard-00005.h5"])
    try expect(keys: ["f", "g", "h"])
  }

  @Test func aFailureChangesNothing() throws {
    try write(["a", "b"])
    try folder.write("c/rejected.tsv", "of the dataset".utf8)
    try folder.write("c/mine.txt", [1])
    let before = try files()
    #expect(throws: DatasetError.self) { try write(["x", "y", "x"]) }
    #expect(throws: UserError.self) { try write(["x", "y"], missing: true) }
    #expect(try files() == before)
    try expect(keys: ["a", "b"])
    #expect(try String(contentsOfFile: folder.path("c/rejected.tsv"), encoding: .utf8) == "of the dataset")
    // With the next one, nothing was left out.
    try write(["x"])
    #expect(try files() == ["corpus.json", "mine.txt", "shard-00002.h5"])
  }

  @Test func aFailureInANewFolderLeavesNothing() throws {
    #expect(throws: DatasetError.self) { try write(["x", "y", "x"]) }
    #expect(try files() == [])
  }

  /// A killed import leaves shards, drafts, or, if it was killed after the swap, the shards of the dataset before.
  @Test func theNextImportRemovesWhatAKilledOneLeft() throws {
    try write(["a", "b"])
    for name in [
      "shard-00007.h5", "shard-00008.h5.partial", "corpus.json.0B5C.partial", "rejected.tsv.partial", "shard-00007.txt",
    ] { try folder.write("c/\(name)", [1]) }
    try expect(keys: ["a", "b"])
    try write(["c"])
    try expect(keys: ["c"])
    #expect(try files() == ["corpus.json", "shard-00002.h5", "shard-00007.txt"])
  }

  /// The second import takes the shards of the first for leftovers, and the first notices.
  @Test func twoImportsAtOnceLeaveOneWholeDataset() throws {
    func writer(_ keys: [String]) throws -> DatasetWriter {
      var writer = try DatasetWriter(name: "c", folder: folder.path("c"), limits: .init(samples: 1), replacing: true)
      for key in keys { try writer.append(DatasetSample(image: [1], captions: [key], key: key)) }
      return writer
    }
    try write(["old"])
    let first = try writer(["a", "b"])
    let second = try writer(["c"])
    do {
      _ = try first.finish()
      Issue.record("the first import has published a dataset without shards")
    } catch is DatasetError {}
    try expect(keys: ["old"])
    _ = try second.finish()
    try expect(keys: ["c"])
  }

  @Test func anIndexThatCannotBeReadIsReplacedLast() throws {
    try write(["a", "b"])
    try folder.write("c/corpus.json", "{".utf8)
    let before = try files()
    #expect(throws: UserError.self) { try write(["x"], missing: true) }
    #expect(try files() == before)
    try write(["c"])
    try expect(keys: ["c"])
    #expect(try files() == ["corpus.json", "shard-00002.h5"])
  }
}
