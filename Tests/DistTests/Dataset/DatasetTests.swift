import Dist
import Foundation
import Subprocess
import TestSupport
import Testing

@Suite struct DatasetTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Returns samples of all kinds: without captions, with several, with Unicode, and with images of 1 to 211 bytes.
  static func samples(_ count: Int, labeled: Bool = false) -> [DatasetSample] {
    (0..<count).map { i in
      let captions = [["a fox 🦊"], [], ["one", "zwei — ‚Über‘", "三"], ["line\nbreak\tand tab"]][i % 4]
      let image = (0...(i * 37 % 211)).map { UInt8(truncatingIfNeeded: i * 31 + $0 * $0) }
      return DatasetSample(
        image: image, captions: captions, key: "key/\(i) é", label: labeled ? (i % 5 == 4 ? nil : i % 3) : nil)
    }
  }

  func write(
    _ name: String, _ samples: [DatasetSample], labels: [String] = [], labeled: Bool = false, perShard: Int = 7
  ) throws -> DatasetIndex {
    var writer = try DatasetWriter(
      name: name, folder: folder.path(name), labeled: labeled, labels: labels, limits: .init(samples: perShard))
    for sample in samples { try writer.append(sample) }
    return try writer.finish()
  }

  func expect(_ dataset: Dataset, equals samples: [DatasetSample]) throws {
    #expect(dataset.count == samples.count)
    for (i, sample) in samples.enumerated() {
      #expect(try dataset.image(i) == sample.image)
      #expect(dataset.captions(i) == sample.captions)
      #expect(dataset.captionCount(i) == sample.captions.count)
      for (choice, caption) in sample.captions.enumerated() { #expect(dataset.caption(i, choice: choice) == caption) }
      #expect(dataset.key(i) == sample.key)
      #expect(dataset.label(i) == sample.label)
      #expect(dataset.sampleID(i) == Dataset.sampleID(dataset: dataset.name, key: sample.key))
    }
  }

  @Test(arguments: [1, 6, 7, 8, 40])
  func samplesComeBack(count: Int) throws {
    let samples = Self.samples(count)
    let index = try write("c", samples)
    #expect(index.shards.count == (count + 6) / 7)
    #expect(index.totals.samples == count)
    #expect(index.totals.captions == samples.reduce(0) { $0 + $1.captions.count })
    try expect(try Dataset.open(folder.path("c"), check: .checksums), equals: samples)
    try expect(try Dataset.open(folder.path("c/corpus.json")), equals: samples)
    #expect(try Dataset.verify(folder.path("c/")).allSatisfy { $0.problem == nil })
    let left = try FileManager.default.contentsOfDirectory(atPath: folder.path("c"))
    #expect(left.count == index.shards.count + 1, "nothing but shards and index: \(left)")
  }

  @Test func labelsAndTheirNames() throws {
    let samples = Self.samples(20, labeled: true)
    _ = try write("c", samples, labels: ["cat", "dog", "emu"], labeled: true)
    let dataset = try Dataset.open(folder.path("c"))
    try expect(dataset, equals: samples)
    #expect(dataset.index.labels == ["cat", "dog", "emu"])
  }

  @Test func aDatasetWithoutAnyCaptionOrSample() throws {
    let samples = [DatasetSample(image: [1], captions: [], key: "a")]
    _ = try write("bare", samples)
    try expect(try Dataset.open(folder.path("bare"), check: .checksums), equals: samples)
    _ = try write("empty", [])
    #expect(try Dataset.open(folder.path("empty")).count == 0)
  }

  @Test func shardsEndAtTheirByteLimit() throws {
    var writer = try DatasetWriter(name: "c", folder: folder.path("c"), limits: .init(samples: 1000, bytes: 2500))
    for i in 0..<10 {
      try writer.append(DatasetSample(image: [UInt8](repeating: 1, count: 1000), captions: [], key: "\(i)"))
    }
    #expect(try writer.finish().shards.map(\.samples) == [3, 3, 3, 1])
  }

  @Test func identityIsOfDatasetAndKeyAlone() throws {
    let digest = SHA256.hash("noto\0u1f98a".utf8)
    let expected = digest.bytes.prefix(8).reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    #expect(Dataset.sampleID(dataset: "noto", key: "u1f98a") == expected)
    let samples = Self.samples(9)
    _ = try write("c", samples, perShard: 2)
    let dataset = try Dataset.open(folder.path("c"))
    try FileManager.default.moveItem(atPath: folder.path("c"), toPath: folder.path("d"))
    _ = try write("c", samples.reversed(), perShard: 4)
    let other = try Dataset.open(folder.path("c"))
    for i in 0..<9 { #expect(dataset.sampleID(i) == other.sampleID(8 - i)) }
    #expect(dataset.fingerprint != other.fingerprint)
  }

  @Test func equalSamplesGiveEqualFiles() throws {
    let samples = Self.samples(9)
    let one = try write("c", samples)
    try FileManager.default.moveItem(atPath: folder.path("c"), toPath: folder.path("d"))
    #expect(try write("c", samples) == one)
  }

  @Test func theWriterRefusesWhatCannotBeRead() throws {
    var writer = try DatasetWriter(name: "c", folder: folder.path("c"), labeled: true, labels: ["x"])
    try writer.append(DatasetSample(image: [1], captions: ["a"], key: "k", label: 0))
    for (sample, words) in [
      (DatasetSample(image: [1], captions: [], key: "k"), "\"k\": another sample has this key"),
      (DatasetSample(image: [1], captions: [], key: ""), "its key is empty"),
      (DatasetSample(image: [1], captions: [], key: "a\0"), "zero byte"),
      (DatasetSample(image: [], captions: [], key: "e"), "\"e\": its image has no bytes"),
      (DatasetSample(image: [1], captions: ["\0"], key: "z"), "\"z\": a caption holds a zero byte"),
      (DatasetSample(image: [1], captions: [], key: "l", label: 1), "\"l\": its label 1 is not one of 1"),
    ] {
      do {
        try writer.append(sample)
        Issue.record("accepted \(sample)")
      } catch let error as DatasetError { #expect(error.description.contains(words)) }
    }
    #expect(writer.count == 1)
    _ = try writer.finish()
    #expect(throws: DatasetError.self) { _ = try DatasetWriter(name: "c", folder: folder.path("c")) }
  }

  @Test func manyThreadsReadManyShards() async throws {
    let samples = Self.samples(600)
    _ = try write("c", samples, perShard: 2)
    let dataset = try Dataset.open(folder.path("c"))
    try await withThrowingTaskGroup(of: Int.self) { group in
      for task in 0..<4 {
        group.addTask {
          var bytes: [UInt8] = []
          var wrong = 0
          for step in 0..<600 {
            let i = (step * 7 + task * 151) % 600
            try dataset.readImage(i, into: &bytes)
            if bytes != samples[i].image || dataset.key(i) != samples[i].key { wrong += 1 }
          }
          return wrong
        }
      }
      for try await wrong in group { #expect(wrong == 0) }
    }
  }

  @Test func h5dumpReadsAShard() async throws {
    _ = try write("c", Self.samples(5, labeled: true), labeled: true)
    let result = try await run(
      .name("h5dump"), arguments: ["-d", "/captions/first", "-d", "/labels", folder.path("c/shard-00000.h5")],
      output: .string(limit: 1 << 20), error: .string(limit: 1 << 20))
    #expect(result.terminationStatus.isSuccess)
    #expect(result.standardOutput.contains("(0): 0, 1, 1, 4, 5, 6"))
    #expect(result.standardOutput.contains("(0): 0, 1, 2, 0, -1"))
  }
}
