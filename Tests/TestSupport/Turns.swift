/// Who may run a command: tests all begin at once, and dozens of jobs on two cores would each take longer than a sound
/// one may.
actor Turns {
  static let shared = Turns(8)

  private var free: Int
  private var waiting: [CheckedContinuation<Void, Never>] = []

  init(_ count: Int) { free = count }

  /// Returns when one of the turns is free, in the order of asking.
  func take() async {
    guard free == 0 else {
      free -= 1
      return
    }
    await withCheckedContinuation { waiting.append($0) }
  }

  /// Hands the turn on.
  func give() {
    if waiting.isEmpty { free += 1 } else { waiting.removeFirst().resume() }
  }
}
