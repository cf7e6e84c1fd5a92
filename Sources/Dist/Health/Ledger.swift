internal import Synchronization

/// Records a communicator's last collective and received bytes. The others wait for the rank with the lowest number.
package final class CollectiveLedger: Sendable {
  package struct Entry: Sendable, CustomStringConvertible {
    /// The collective's name; "none" before the first.
    package var name: StaticString
    /// The number of the collective on this communicator, from 1. Ranks in the same collective have equal numbers.
    package var sequence: UInt64
    /// True while the rank is inside the collective.
    package var running: Bool
    package var description: String { "\(name) #\(sequence)" }
  }

  /// The communicator's name, the same on all ranks.
  package let communicator: String
  private let state = Mutex(Entry(name: "none", sequence: 0, running: false))
  private let volume = Mutex(0)
  /// All ledgers, behind a lock because any thread may create or release a communicator at any time.
  private static let registry = Mutex<[Reference]>([])
  private struct Reference: Sendable { weak var ledger: CollectiveLedger? }

  init(communicator: String) {
    self.communicator = communicator
    Self.registry.withLock { registry in
      registry.removeAll { $0.ledger == nil }
      registry.append(Reference(ledger: self))
    }
  }

  /// The ledgers of all communicators of this process, in the order of their creation.
  package static var all: [CollectiveLedger] { registry.withLock { $0.compactMap(\.ledger) } }
  /// The collective that was entered last.
  package var last: Entry { state.withLock { $0 } }
  /// The bytes that this rank has received from others, as `Traffic` counts them.
  package var received: Int { volume.withLock { $0 } }

  func enter(_ name: StaticString) {
    state.withLock { $0 = Entry(name: name, sequence: $0.sequence + 1, running: true) }
  }

  func leave() { state.withLock { $0.running = false } }
  func add(bytes: Int) { volume.withLock { $0 += bytes } }
}
