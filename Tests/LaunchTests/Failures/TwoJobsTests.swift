import Foundation
import TestSupport
import Testing

@testable import Dist
@testable import Launch

/// Two jobs that want to write to one folder.
@Suite struct TwoJobsTests {
  /// The second job of a run names the first and ends; the first neither stops nor shares its log.
  @Test func aRunThatIsStartedTwice() async throws {
    let scene = try await TrainScene()
    let run = try await scene.disturb(
      "twice", FailureTests.endless, ranks: 2,
      """
      steps 2
      "$KINSHIP_PROGRAM" "$@" --resume auto >"$PIDS.second" 2>&1; echo "second: $?"
      grep "process $(rank 0) on" "$PIDS.second"
      kill -USR1 $job
      """)
    #expect(run.status == 75 && run.output.contains("second: 78\n"), "\(run)")
    #expect(run.output.contains(/kinship: .*runs\/twice is in use by process [0-9]+ on .*: wait for its end/), "\(run)")
    #expect(try scene.log("twice", "start").count == 1)
    let lock = scene.runFolder("twice").appending(path: FolderLock.file).path
    #expect(!FileManager.default.fileExists(atPath: lock))
  }

  /// A job that was stopped for so long that another one has its folder ends when it finds out.
  @Test func aRunThatIsTakenOver() async throws {
    let scene = try await TrainScene()
    let script = #"steps 2; sed -i 's/"id"[^,]*/"id": "another"/' "$RUN/\#(FolderLock.file)""#
    let run = try await scene.disturb("lost", FailureTests.endless, ranks: 2, script)
    #expect(run.status == 78 && run.leftBehind.isEmpty, "\(run)")
    #expect(run.errors.contains("runs/lost was taken over by process "), "\(run)")
    let lock = scene.runFolder("lost").appending(path: FolderLock.file).path
    #expect(try String(contentsOfFile: lock, encoding: .utf8).contains("another"))
    // A process alone ends without MPI's words about itself.
    let launch = #""$KINSHIP_PROGRAM" "$@" & echo $! >"$PIDS.0""#
    let alone = try await scene.disturb("alone", FailureTests.endless, ranks: 1, by: launch, script)
    #expect(alone.status == 78 && alone.errors.contains("runs/alone was taken over by process "), "\(alone)")
    #expect(!alone.errors.contains("MPI_ABORT"), "\(alone)")
  }

  @Test func aCacheThatAnotherJobComputes() async throws {
    let scene = try await CacheScene()
    let folder = scene.folder("busy")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let first = try FolderLock.take(folder, as: FolderLock.Holder(host: "elsewhere")).holder
    let stop = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      var holder = first
      while stop.wait(timeout: .now() + 0.1) == .timedOut {
        holder.beats += 1
        if let bytes = try? holder.bytes { try? Data(bytes).write(to: URL(filePath: "\(folder)/\(FolderLock.file)")) }
      }
    }
    let run = try await scene.run("busy", ranks: nil)
    stop.signal()
    #expect(run.status == 78, "\(run)")
    #expect(run.errors.contains("busy/corpus is in use by process \(getpid()) on elsewhere"), "\(run)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [FolderLock.file])
  }
}
