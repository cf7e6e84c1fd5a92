import Dist
import Foundation
import Synchronization

/// A request from outside to stop soon: SIGUSR1, SIGTERM, SIGINT or SIGHUP to any rank. The handler only sets a flag,
/// on which the ranks agree after each step and during evaluations. A second SIGINT ends the process at once. mpirun
/// kills its ranks one second after it receives any of these but SIGUSR1, so launch scripts turn them into that one.
enum StopRequest {
  private static let names = [SIGUSR1: "SIGUSR1", SIGTERM: "SIGTERM", SIGINT: "SIGINT", SIGHUP: "SIGHUP"]
  private static let received = Atomic<Int32>(0)
  private static let isInterrupted = Atomic(false)
  /// The thread that holds signals back for the program that replaces this one; 0: none.
  private static let holder = Atomic<UInt>(0)

  /// Installs the handlers. `main` does so first of all, so that a signal never ends a single rank.
  static func listen() {
    received.store(0, ordering: .relaxed)
    isInterrupted.store(false, ordering: .relaxed)
    holder.store(0, ordering: .relaxed)
    for number in names.keys { set(number) { StopRequest.take($0) } }
    // Those that came while the program replaced itself come now.
    mask(SIG_UNBLOCK)
  }

  /// Holds signals back until the program that replaces this one listens: handlers do not outlive that, while signals
  /// that wait for this thread do.
  static func hold() {
    mask(SIG_BLOCK)
    holder.store(pthread_self(), ordering: .relaxed)
    let number = received.load(ordering: .relaxed)
    if number != 0 { pthread_kill(pthread_self(), number) }
  }

  /// Lets signals end the process, as is right for work that saves nothing; one that has come does so now.
  static func decline() {
    for number in names.keys { set(number, SIG_DFL) }
    let number = received.load(ordering: .relaxed)
    if number != 0 { raise(number) }
  }

  private static func take(_ number: Int32) {
    let thread = holder.load(ordering: .relaxed)
    if thread != 0 {
      pthread_kill(thread, number)
      return
    }
    received.store(number, ordering: .relaxed)
    guard number == SIGINT, isInterrupted.exchange(true, ordering: .relaxed) else { return }
    FolderLock.abandon()
    signal(SIGINT, SIG_DFL)
    raise(SIGINT)
  }

  /// Sets what a signal does, unless whoever started the process lets it ignore the signal, as nohup does.
  private static func set(_ number: Int32, _ action: (@convention(c) (Int32) -> Void)?) {
    let before = signal(number, action)
    let isIgnored = unsafe unsafeBitCast(before, to: UInt.self) == 1
    if isIgnored, number == SIGINT || number == SIGHUP { signal(number, SIG_IGN) }
  }

  private static func mask(_ change: Int32) {
    var signals = sigset_t()
    unsafe sigemptyset(&signals)
    for number in names.keys { unsafe sigaddset(&signals, number) }
    unsafe pthread_sigmask(change, &signals, nil)
  }

  /// Returns the signal that any rank has received, or nil. Every rank must call it.
  static func agreed(over ranks: Communicator) throws -> String? { try agreed(over: ranks, isDue: false).signal }

  /// Returns the same signal, and true if `isDue` is true on any rank. Every rank must call it.
  static func agreed(over ranks: Communicator, isDue: Bool) throws -> (signal: String?, isDue: Bool) {
    var flags = [Double(received.load(ordering: .relaxed)), isDue ? 1 : 0]
    try ranks.allReduce(&flags, .maximum)
    return (names[Int32(flags[0])], flags[1] > 0)
  }

  /// Throws an `Interruption` on all ranks together if any of them has received a signal. Every rank must call it.
  static func check(over ranks: Communicator) throws {
    if let signal = try agreed(over: ranks) { throw Interruption(signal: signal) }
  }

  struct Interruption: Error { let signal: String }
}
