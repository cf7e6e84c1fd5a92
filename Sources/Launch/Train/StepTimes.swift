/// What the last few hundred steps of a run have taken: as much memory for any number of steps.
struct StepTimes {
  private static let most = 500

  private var seconds: [Double] = []
  /// Steps in all, the first included.
  private var count = 0

  init() { seconds.reserveCapacity(Self.most) }

  /// The first step is left out: it makes the memory of all others.
  mutating func append(_ taken: Double) {
    defer { count += 1 }
    guard count > 0 else { return }
    if seconds.count < Self.most { seconds.append(taken) } else { seconds[(count - 1) % Self.most] = taken }
  }

  /// Nil of fewer than two steps.
  var median: Double? { seconds.isEmpty ? nil : seconds.sorted()[seconds.count / 2] }
}
