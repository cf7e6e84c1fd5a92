import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Dist

/// Tests who gets a folder that several jobs want, and when it is taken from a job that has gone.
@Suite struct FolderLockTests {
  let folder = try! TemporaryFolder()
  private var path: String { folder.path(FolderLock.file) }

  /// Writes the lock file of a holder with other values.
  private func write(_ holder: FolderLock.Holder, changing values: [String: Any] = [:]) throws {
    let bytes = try Data(holder.bytes)
    var object = try #require(JSONSerialization.jsonObject(with: bytes) as? [String: Any])
    object.merge(values) { $1 }
    try JSONSerialization.data(withJSONObject: object).write(to: URL(filePath: path))
  }

  private func holder() throws -> FolderLock.Holder? {
    FolderLock.Holder(Array(try Data(contentsOf: URL(filePath: path))))
  }

  private func take(_ patience: Double = 0.5) throws -> FolderLock.Possession {
    try FolderLock.take(folder.url.path, as: FolderLock.Holder(host: "here"), patience: patience)
  }

  @Test func aFolderIsFreeAtFirst() throws {
    let possession = try take()
    #expect(possession.note == nil)
    #expect(try holder() == possession.holder)
    #expect(possession.holder.process == getpid() && !possession.holder.isGone)
  }

  /// Whoever sees the number of a job grow gives up, long before its patience ends.
  @Test func aJobThatGoesOnKeepsTheFolder() throws {
    let first = try take().holder
    let stop = DispatchSemaphore(value: 0)
    let file = path
    Thread.detachNewThread {
      var holder = first
      while stop.wait(timeout: .now() + 0.01) == .timedOut { Self.beat(&holder, file) }
    }
    let error = #expect(throws: FolderInUse.self) { try take(1000) }
    stop.signal()
    #expect(error?.status == .inUse)
    #expect(error?.description.contains("is in use by process \(getpid()) on here, which has held it since 2") ?? false)
    #expect(try holder()?.id == first.id)
  }

  private static func beat(_ holder: inout FolderLock.Holder, _ path: String) {
    holder.beats += 1
    if let bytes = try? holder.bytes { try? Data(bytes).write(to: URL(filePath: path), options: .atomic) }
  }

  /// A process of this host that has ended, or whose number another process has now, holds nothing.
  @Test func aJobThatHasGoneLosesTheFolderAtOnce() throws {
    for values in [["process": 1 << 30], ["began": 1]] as [[String: Any]] {
      try write(FolderLock.Holder(host: "there"), changing: values)
      let possession = try take(1000)
      let note = try #require(possession.note)
      #expect(note.contains(" on there, which has held it since 2"), "\(note)")
      #expect(note.hasSuffix(": that process has gone"), "\(note)")
      #expect(try holder() == possession.holder)
      try FileManager.default.removeItem(atPath: path)
    }
  }

  /// Of a process elsewhere only the file tells, and a file that is no lock tells nothing at all.
  @Test func aJobWithoutASignLosesTheFolder() throws {
    try write(FolderLock.Holder(host: "there"), changing: ["space": "another kernel", "process": 1 << 30])
    let far = try take()
    #expect(far.note?.hasSuffix(": nothing has changed there for 0.5 s") ?? false)
    try Data().write(to: URL(filePath: path))
    let unknown = try take()
    #expect(unknown.note?.contains("is taken over from an unknown job: nothing has changed") ?? false)
    #expect(try holder() == unknown.holder)
  }

  /// Of jobs that all find the same holder gone at the same moment, one gets the folder.
  @Test func oneOfManyTakesTheFolderOver() throws {
    final class Tally: Sendable {
      let winners = Mutex<[String]>([])
      let refused = Mutex(0)
      let end = DispatchGroup()
    }
    try write(FolderLock.Holder(host: "there"), changing: ["began": 1])
    let (place, file, tally) = (folder.url.path, path, Tally())
    for number in 1...8 {
      tally.end.enter()
      Thread.detachNewThread {
        defer { tally.end.leave() }
        do {
          var holder = try FolderLock.take(place, as: FolderLock.Holder(host: "host \(number)"), patience: 1000).holder
          tally.winners.withLock { $0.append(holder.id) }
          while tally.refused.withLock({ $0 }) < 7, tally.winners.withLock({ $0.count }) == 1 {
            Self.beat(&holder, file)
            Thread.sleep(forTimeInterval: 0.01)
          }
        } catch { tally.refused.withLock { $0 += error is FolderInUse ? 1 : 0 } }
      }
    }
    tally.end.wait()
    #expect(tally.winners.withLock { $0.count } == 1 && tally.refused.withLock { $0 } == 7)
    #expect(try tally.winners.withLock { $0.first } == holder()?.id)
    #expect(try FileManager.default.contentsOfDirectory(atPath: place) == [FolderLock.file])
  }
}
