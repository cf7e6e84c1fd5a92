import Foundation
import TestSupport
import Testing

@testable import Dist

extension MPITests {
  /// Copies of datasets on a node's own disk: who makes them, who uses them, and who removes them.
  @Suite struct StagingTests {
    let folder = try! TemporaryFolder()
    let index: DatasetIndex
    private var dataset: String { folder.path("dataset") }
    private var parent: String { folder.path("disk/stage") }
    private var bytes: Int { index.totals.fileBytes }

    init() throws {
      var writer = try DatasetWriter(name: "c", folder: folder.path("dataset"), limits: .init(samples: 7))
      for sample in DatasetTests.samples(20) { try writer.append(sample) }
      index = try writer.finish()
      #expect(index.shards.count == 3)
    }

    private func stage(_ end: String, _ free: Int? = nil, ranks: Int) async throws -> MPIRun {
      let arguments = [dataset, parent, end] + [free].compactMap { $0.map { "\($0)" } }
      return try await MPIRun.probe("stage", arguments, ranks: ranks)
    }

    private func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: parent).sorted() }

    /// Returns the folder of the copies, of which there is one.
    private func copies() throws -> String {
      let names = try names()
      return "\(parent)/\(try #require(names.count == 1 ? names[0] : nil, "\(names)"))"
    }

    /// Copies that a killed job has left are used again as far as they are sound, and what no process uses goes.
    @Test func copiesAreSharedReusedAndRemoved() async throws {
      let first = try await stage("leave", ranks: 2)
      #expect(first.status == 0 && first.lines == (0..<2).map { "\($0): \(bytes) bytes on 1" }, "\(first)")
      let path = try copies()
      #expect(try Set(index.shards.map(\.file)).isSubset(of: FileManager.default.contentsOfDirectory(atPath: path)))

      try damage("\(path)/\(index.shards[1].file)") { $0[$0.count / 2] ^= 1 }
      try folder.write("disk/stage/\(URL(filePath: path).lastPathComponent)/x.h5.1.partial", [1])
      let stale = StageFolder.path(String(repeating: "0", count: 64), in: parent)
      for name in [".lock", "old.h5"] {
        try folder.write("disk/stage/\(URL(filePath: stale).lastPathComponent)/\(name)", [1])
      }
      try folder.write("disk/stage/other", [1])
      let second = try await stage("leave", ranks: 1)
      #expect(second.lines == ["0: \(index.shards[1].fileBytes) bytes on 1"], "\(second)")
      #expect(try names() == [URL(filePath: path).lastPathComponent, "other"])
      #expect(try !FileManager.default.contentsOfDirectory(atPath: path).contains { $0.hasSuffix(".partial") })

      let third = try await stage("release", ranks: 3)
      #expect(third.lines == (0..<3).map { "\($0): 0 bytes on 1" }, "\(third)")
      #expect(try names() == ["other"])
    }

    /// As long as another job lives, the copies stay.
    @Test func theLastJobRemovesThem() async throws {
      _ = try await stage("leave", ranks: 1)
      let path = try copies()
      let other = try OpenFile(StageFolder.lock(of: path), "open", O_RDWR)
      #expect(try other.lock(shared: true))
      let one = try await stage("release", ranks: 1)
      #expect(one.lines == ["0: 0 bytes on 1"], "\(one)")
      let left = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
      #expect(left == [".lock"] + index.shards.map(\.file).sorted())
      withExtendedLifetime(other) {}
    }

    @Test func failuresLeaveNothing() async throws {
      let failed = try await stage("fail", ranks: 2)
      #expect(failed.status == 70, "\(failed)")
      #expect(try names() == [])
      let full = try await stage("leave", 1000, ranks: 2)
      #expect(full.status == 74, "\(full)")
      let message =
        #/kinship: data.stage: on \S+: cannot write \S+: \d+ bytes are needed, 1000 are available; free some/#
      #expect(full.errors.contains(message), "\(full)")
      #expect(try names() == [])
      let shard = index.shards[2]
      try damage("\(dataset)/\(shard.file)") { $0[shard.imageOffset] ^= 1 }
      let altered = try await stage("leave", ranks: 2)
      #expect(
        altered.status == 65 && altered.errors.contains("\(shard.file): it is altered: its SHA-256 is "), "\(altered)")
      #expect(try names() == [])
    }

    /// Another user may have put links where everyone may write. Nothing behind them is touched.
    @Test func linksAreNotFollowed() async throws {
      for name in [index.shards[0].file, "notes"] { try folder.write("precious/\(name)", [1]) }
      let before = try FileManager.default.contentsOfDirectory(atPath: folder.path("precious")).sorted()
      func link(_ path: String) throws {
        try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: folder.path("precious"))
      }
      _ = try await stage("leave", ranks: 1)
      let path = try copies()
      let stale = StageFolder.path(String(repeating: "0", count: 64), in: parent)
      try link(stale)
      let passed = try await stage("release", ranks: 1)
      #expect(passed.status == 0, "\(passed)")
      #expect(try names() == [URL(filePath: stale).lastPathComponent])
      try link(path)
      let refused = try await stage("release", ranks: 2)
      #expect(refused.status == 74, "\(refused)")
      #expect(refused.errors.contains("cannot use \(path): it is a link, or another user's folder; "), "\(refused)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path("precious")).sorted() == before)
    }

    @Test func aFolderThatCannotBeMadeIsNamed() async throws {
      try folder.write("disk", [])
      let run = try await stage("release", ranks: 1)
      #expect(run.status == 74 && run.errors.contains("kinship: data.stage: on "), "\(run)")
      #expect(run.errors.contains(": cannot create the folder \(parent): "), "\(run)")
    }
  }
}
