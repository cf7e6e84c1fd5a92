import Dispatch
import Foundation
import Synchronization
import Testing

@testable import Tensor

@Suite struct SystemThreadTests {
  private final class Seen: Sendable {
    let name = Mutex("")
    let isOver = DispatchSemaphore(value: 0)
  }

  @Test func aThreadRunsUnderItsName() throws {
    let seen = Seen()
    try SystemThread.start("a thread", stackBytes: 1 << 20) {
      seen.name.withLock { $0 = Thread.current.name ?? "" }
      seen.isOver.signal()
    }
    seen.isOver.wait()
    #expect(seen.name.withLock { $0 } == "a thread")
  }

  @Test func threadsAreTriedOut() throws {
    let found = SystemThread.trial(3)
    #expect(found.count == 3 && found.code == 0)
    try SystemThread.require(2, for: "a library")
  }

  @Test func aRefusalSaysWhatToChange() {
    let words = ThreadError("the threads of MPI", started: 2, of: 4, code: EAGAIN).description
    #expect(
      words.hasPrefix(
        "cannot start the threads of MPI: Resource temporarily unavailable; 2 of 4 were started; the limit on the user"
          + "'s processes and threads (ulimit -u) is "))
    #expect(!words.contains("unknown") && words.hasSuffix("or fewer threads (KINSHIP_THREADS)"), "\(words)")
  }
}
