import Foundation

/// Processes that a test started, directly or through others, found by a mark in their environment.
///
/// A launcher that is killed leaves its ranks behind. They hold the pipes of the test that waits for it, so that it
/// would wait for ever.
struct Stragglers {
  /// The variable that carries the mark; launchers hand it on.
  static let variable = "KINSHIP_TEST_RUN"

  let mark: String

  /// Terminates all of them, kills those that have not ended after `grace`, and says what each was doing.
  func end(grace: Duration = .seconds(3)) async -> [String] {
    let states = found.map { "\($0) \(Self.state(of: $0))" }
    for process in found { kill(process, SIGTERM) }
    let deadline = ContinuousClock.now + grace
    while !found.isEmpty, ContinuousClock.now < deadline { await Self.pause() }
    // One that is being killed may be starting another.
    while !found.isEmpty {
      for process in found { kill(process, SIGKILL) }
      await Self.pause()
    }
    return states
  }

  /// Ends what is there after `grace`, and says what each was doing; they may end by themselves before.
  func remaining(after grace: Duration) async -> [String] {
    let deadline = ContinuousClock.now + grace
    while !found.isEmpty, ContinuousClock.now < deadline { await Self.pause() }
    return found.isEmpty ? [] : await end()
  }

  /// The living processes with the mark.
  var found: [pid_t] {
    let entry = Data("\(Self.variable)=\(mark)\0".utf8)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return names.compactMap { pid_t($0) }.filter { process in
      // A process that has ended, but has not been waited for, has no environment any more.
      let environment = try? Data(contentsOf: URL(filePath: "/proc/\(process)/environ"))
      return environment?.range(of: entry) != nil
    }
  }

  /// What it runs, whether it sleeps, and where in the kernel.
  private static func state(of process: pid_t) -> String {
    func read(_ name: String) -> String {
      let data = (try? Data(contentsOf: URL(filePath: "/proc/\(process)/\(name)"))) ?? Data()
      return String(decoding: data, as: UTF8.self).replacing("\0", with: " ")
    }
    let state = read("status").split(separator: "\n").first { $0.hasPrefix("State:") } ?? "State: ?"
    return "\(read("cmdline")): \(state) in \(read("wchan"))"
  }

  /// Cancelled or not, the processes must end.
  private static func pause() async {
    await Task.detached { try? await Task.sleep(for: .milliseconds(50)) }.value
  }
}
