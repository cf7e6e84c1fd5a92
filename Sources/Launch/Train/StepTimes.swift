/// The times of a run's last few hundred steps, in memory of a fixed size.
struct StepTimes {
  private static let most = 500
  private var seconds: [Double] = []
  /// The number of steps so far, the first included.
  private var count = 0
  init() { seconds.reserveCapacity(Self.most) }

  /// Adds a step's time in seconds. The first step is left out because it allocates the memory of all others.
  mutating func append(_ taken: Double) {
    defer { count += 1 }
    guard count > 0 else { return }
    if seconds.count < Self.most { seconds.append(taken) } else { seconds[(count - 1) % Self.most] = taken }
  }

  var median: Double? { seconds.isEmpty ? nil : seconds.median }
}
