internal import Synchronization
internal import Tensor

/// What this rank is doing, and signs that it gets on: what the watchdog looks at.
public enum Progress {
  /// What the main thread is busy with.
  public enum Activity: Int, Sendable {
    case preparing, waitingForData, training, saving, evaluating

    var words: String {
      switch self {
      case .preparing: "preparing the run"
      case .waitingForData: "waiting for data"
      case .training: "training"
      case .saving: "saving"
      case .evaluating: "evaluating"
      }
    }

    /// How many deadlines it may stand still. Before the first step all ranks wait for the one whose share of the
    /// corpora or of a teacher's file comes last; a disk may take minutes to take in a large file.
    var patience: Double {
      switch self {
      case .preparing: 10
      case .saving, .evaluating: 3
      case .waitingForData, .training: 1
      }
    }
  }

  private static let signs = Atomic<Int>(0)
  private static let activity = Atomic<Int>(Activity.preparing.rawValue)
  private static let done = Atomic<Int>(0)

  /// The main thread turns to something, after so many steps. Any change counts as progress.
  public static func enter(_ next: Activity, after steps: Int) {
    activity.store(next.rawValue, ordering: .relaxed)
    done.store(steps, ordering: .relaxed)
    made()
  }

  /// Something was finished, by any thread: a picture prepared, a piece of a file read or written.
  public static func made() { signs.add(1, ordering: .relaxed) }

  static var current: (activity: Activity, steps: Int) {
    (Activity(rawValue: activity.load(ordering: .relaxed)) ?? .preparing, done.load(ordering: .relaxed))
  }

  /// A number that changes whenever this rank gets on: with signs, matrix products, and collectives entered and left.
  static var count: Int {
    CollectiveLedger.all.reduce(signs.load(ordering: .relaxed) &+ MatrixProducts.count) { sum, ledger in
      let last = ledger.last
      return sum &+ 2 &* Int(truncatingIfNeeded: last.sequence) &- (last.running ? 1 : 0)
    }
  }
}
