internal import Synchronization
internal import Tensor

/// The activity of this rank and a counter of its progress, which the watchdog observes.
public enum Progress {
  /// The phase of the run that the main thread is in.
  public enum Activity: Int, Sendable {
    case preparing, waitingForData, training, saving, evaluating, working

    var words: String {
      switch self {
      case .preparing: "preparing the run"
      case .waitingForData: "waiting for data"
      case .training: "training"
      case .saving: "saving"
      case .evaluating: "evaluating"
      case .working: "working"
      }
    }

    /// The number of deadlines that may pass without progress. Before the first step all ranks wait for the slowest
    /// reader of the datasets or of a teacher's file, and a disk may need minutes to write a large file. Commands
    /// without steps (`working`) do not say more precisely where they are.
    var patience: Double {
      switch self {
      case .preparing: 10
      case .saving, .evaluating, .working: 3
      case .waitingForData, .training: 1
      }
    }
  }

  private static let signs = Atomic<Int>(0)
  private static let activity = Atomic<Int>(Activity.preparing.rawValue)
  private static let done = Atomic<Int>(0)

  /// Records that the main thread begins an activity after `steps` steps, which counts as progress.
  public static func enter(_ next: Activity, after steps: Int) {
    activity.store(next.rawValue, ordering: .relaxed)
    done.store(steps, ordering: .relaxed)
    made()
  }

  /// Records progress of any thread, such as a prepared image or a piece of a file that was read or written.
  public static func made() { signs.add(1, ordering: .relaxed) }

  static var current: (activity: Activity, steps: Int) {
    (Activity(rawValue: activity.load(ordering: .relaxed)) ?? .preparing, done.load(ordering: .relaxed))
  }

  /// A counter that changes with every recorded progress, every matrix product, and every collective entered or left.
  static var count: Int {
    CollectiveLedger.all.reduce(signs.load(ordering: .relaxed) &+ MatrixProducts.count) { sum, ledger in
      let last = ledger.last
      return sum &+ 2 &* Int(truncatingIfNeeded: last.sequence) &- (last.running ? 1 : 0)
    }
  }
}
