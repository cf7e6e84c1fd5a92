import Foundation
import Tensor
import TestSupport
import Testing

@testable import Dist

/// Shards with altered metadata and matching sums end in a sentence. The HDF5 library sees only what it can read.
@Suite struct HostileHDF5Tests {
  /// One process verifies a dataset of altered shards: the first two made the library crash and loop without end, and
  /// the others have the structure of ours in spite of a changed byte.
  @Test func theLibrarySeesOnlyWhatItCanRead() async throws {
    let folder = try TemporaryFolder()
    var writer = try DatasetWriter(name: "c", folder: folder.path("c"), labeled: true)
    for index in 0..<4 {
      try writer.append(DatasetSample(image: [1, 2, 3], captions: ["one", "two"], key: "\(index)", label: index))
    }
    let written = try writer.finish()
    let entry = try #require(written.shards.first)
    let whole = [UInt8](try Data(contentsOf: URL(filePath: folder.path("c/\(entry.file)"))))
    var shards: [DatasetIndex.Shard] = []
    func add(_ bytes: [UInt8]) throws {
      var shard = entry
      shard.file = "altered-\(shards.count).h5"
      shard.sha256 = SHA256.hash(bytes).hexadecimal
      let rest = bytes[..<entry.imageExtent.lowerBound] + bytes[entry.imageExtent.upperBound...]
      shard.restSHA256 = SHA256.hash(rest).hexadecimal
      try folder.write("c/\(shard.file)", bytes)
      shards.append(shard)
    }

    // A group with its links in the header, whose heap of links has an address now.
    var crash = whole
    let information: [UInt8] = [2, 0, 24, 0, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 0xFF, count: 16)
    let links = try #require(whole.firstRange(of: information))
    let heap = links.lowerBound + 10
    (crash[heap + 3], crash[heap + 4]) = (0, 0)
    try add(crash)
    // A collection of strings, whose free rest has no bytes now.
    var loop = whole
    var free = try #require(whole.firstRange(of: Array("GCOL".utf8))).lowerBound + 16
    while whole.little(2, at: free) > 0 { free += 16 + (Int(whole.little(8, at: free + 8)) + 7) & ~7 }
    (loop[free + 8], loop[free + 9]) = (0, 0)
    try add(loop)

    var refused = 0
    for place in stride(from: 0, to: whole.count, by: 11) where !entry.imageExtent.contains(place) {
      var bytes = whole
      bytes[place] ^= [1, 0x80, 0xFF][place % 3]
      let draft = try folder.write("draft.h5", bytes)
      do { try HDF5Structure.check(draft) } catch {
        refused += 1
        continue
      }
      try add(bytes)
    }
    #expect(refused > 50 && shards.count > 50, "\(refused) refused, \(shards.count) to read")
    let index = try DatasetIndex(name: "c", labels: [], labeled: true, shards: shards)
    try index.write(to: folder.path("c/\(DatasetIndex.fileName)"))

    let run = try await MPIRun.kinship(["dataset", "verify", folder.path("c")], ranks: nil)
    #expect(run.status == 65, "\(run)")
    let lines = run.output.split(separator: "\n").map(String.init)
    #expect(lines.count == shards.count)
    #expect(lines.first?.contains("BAD, cannot be read (truncated or altered?): byte \(heap): ") == true, "\(run)")
    #expect(lines.dropFirst().first?.contains("byte \(free + 8): ") == true, "\(run)")
  }
}
