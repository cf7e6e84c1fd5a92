internal import Synchronization

/// Which collective a communicator entered last, and whether it has left it.
///
/// When a job stands still, the ranks' entries show who waits for whom: the rank with the lowest number is the one
/// that did not come.
package final class CollectiveLedger: Sendable {
  package struct Entry: Sendable, CustomStringConvertible {
    /// The collective's name; "none" before the first.
    package var name: StaticString
    /// 1 for the first collective of the communicator; ranks that agree have equal numbers.
    package var sequence: UInt64
    /// Whether the rank is still inside.
    package var running: Bool

    package var description: String { "\(name) #\(sequence)" }
  }

  /// The communicator's name, the same on all ranks.
  package let communicator: String
  private let state = Mutex(Entry(name: "none", sequence: 0, running: false))
  private let volume = Mutex(0)

  /// A communicator may be made and given up at any time, by any thread.
  private static let registry = Mutex<[Reference]>([])

  private struct Reference: Sendable {
    weak var ledger: CollectiveLedger?
  }

  init(communicator: String) {
    self.communicator = communicator
    Self.registry.withLock { registry in
      registry.removeAll { $0.ledger == nil }
      registry.append(Reference(ledger: self))
    }
  }

  /// The ledgers of all communicators of this process, in the order in which they were made.
  package static var all: [CollectiveLedger] { registry.withLock { $0.compactMap(\.ledger) } }

  package var last: Entry { state.withLock { $0 } }

  /// Bytes that other ranks have had to send to this one, by the counting of `Traffic`.
  package var received: Int { volume.withLock { $0 } }

  func enter(_ name: StaticString) {
    state.withLock { $0 = Entry(name: name, sequence: $0.sequence + 1, running: true) }
  }

  func leave() { state.withLock { $0.running = false } }

  func add(bytes: Int) { volume.withLock { $0 += bytes } }
}
