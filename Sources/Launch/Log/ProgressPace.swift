/// The pace of a long loop: for how long it has run, whether a line about it is due, and how long the rest will take.
struct ProgressPace {
  private let interval: Duration
  private let start = ContinuousClock.now
  private var last = ContinuousClock.now

  /// Makes a line due every few seconds, the first after as many.
  init(every seconds: Int = 5) { interval = .seconds(seconds) }

  /// The seconds since the loop began.
  var seconds: Double { (ContinuousClock.now - start) / .seconds(1) }

  /// Returns true if a line is due. The next one is due an interval later.
  mutating func isDue() -> Bool {
    let now = ContinuousClock.now
    guard now - last >= interval else { return false }
    last = now
    return true
  }

  /// Returns the time that the rest will take if it goes as fast as what is done, in words.
  func left(done: Int, of total: Int) -> String { Figures.duration(Double(total - done) * seconds / Double(done)) }
}
