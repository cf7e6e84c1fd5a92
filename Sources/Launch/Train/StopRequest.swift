import Dist
import Foundation
import Synchronization

/// A request from outside to stop soon: SIGUSR1 or SIGTERM, to any rank.
///
/// The handler only sets a flag. After each step, and within evaluations, the ranks agree whether any of them has it,
/// and then all save and end together. The launcher kills the ranks a second after its own SIGTERM, so launch scripts
/// turn that into SIGUSR1.
enum StopRequest {
  private static let received = Atomic<Int32>(0)

  /// From here on the signals no longer end the process by themselves. Called before MPI starts, so that a signal finds
  /// no rank without it.
  static func listen() {
    for number in [SIGUSR1, SIGTERM] {
      signal(number) { StopRequest.received.store($0, ordering: .relaxed) }
    }
  }

  /// The signal that some rank has received; nil if none has. Every rank must call it.
  static func agreed(over ranks: Communicator) throws -> String? { try agreed(over: ranks, isDue: false).signal }

  /// The same, with whether something is due that some rank says is. Every rank must call it.
  static func agreed(over ranks: Communicator, isDue: Bool) throws -> (signal: String?, isDue: Bool) {
    var flags = [Double(received.load(ordering: .relaxed)), isDue ? 1 : 0]
    try ranks.allReduce(&flags, .maximum)
    let signal: String? =
      switch Int32(flags[0]) {
      case 0: nil
      case SIGUSR1: "SIGUSR1"
      default: "SIGTERM"
      }
    return (signal, flags[1] > 0)
  }

  /// Leaves what can be left off, on all ranks together, if any of them is to stop. Every rank must call it.
  static func check(over ranks: Communicator) throws {
    if let signal = try agreed(over: ranks) { throw Interruption(signal: signal) }
  }

  /// Thrown out of an evaluation that a request to stop has ended.
  struct Interruption: Error {
    let signal: String
  }
}
