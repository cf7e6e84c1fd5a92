internal import CProcess
import Foundation

/// The processes that a test started, directly or indirectly, which are found by a mark in their environment.
///
/// A launcher that is killed leaves its ranks behind. They keep the pipes to the test open, so that a test that waits
/// for the launcher would wait forever.
struct Stragglers {
  /// The environment variable with the mark, which launchers pass on.
  static let variable = "KINSHIP_TEST_RUN"

  let mark: String

  /// Terminates all processes, kills those that have not ended after `grace`, and returns a description of each with
  /// its state.
  func end(grace: Duration = .seconds(3)) async -> [String] {
    let states = found.map { "\($0) \(Self.state(of: $0))" }
    for process in found { kill(process, SIGTERM) }
    await areGone(by: .now + grace)
    // A process that is being killed may be starting another one.
    while !isEmpty {
      let processes = found
      for process in processes { kill(process, SIGKILL) }
      await Self.oneEnds(of: processes, by: nil)
    }
    return states
  }

  /// Waits up to `grace` for the processes to end by themselves, then ends those that are left and returns their
  /// descriptions.
  func remaining(after grace: Duration) async -> [String] {
    await areGone(by: .now + grace) ? [] : await end()
  }

  /// The running processes with the mark.
  var found: [pid_t] {
    let entry = Data("\(Self.variable)=\(mark)\0".utf8)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return names.compactMap { pid_t($0) }.filter { process in
      // A process that has ended but has not been waited for no longer has an environment.
      let environment = try? Data(contentsOf: URL(filePath: "/proc/\(process)/environ"))
      return environment?.range(of: entry) != nil
    }
  }

  /// True if no process is left. A process may start another one after the list was read and end before it is examined;
  /// only the second look finds the new one.
  private var isEmpty: Bool { found.isEmpty && found.isEmpty }

  /// Returns the command of a process, its state, and the kernel function in which it waits.
  private static func state(of process: pid_t) -> String {
    func read(_ name: String) -> String {
      let data = (try? Data(contentsOf: URL(filePath: "/proc/\(process)/\(name)"))) ?? Data()
      return String(decoding: data, as: UTF8.self).replacing("\0", with: " ")
    }
    let state = read("status").split(separator: "\n").first { $0.hasPrefix("State:") } ?? "State: ?"
    return "\(read("cmdline")): \(state) in \(read("wchan"))"
  }

  /// Returns true as soon as no process is left, or false at the deadline.
  @discardableResult
  private func areGone(by deadline: ContinuousClock.Instant) async -> Bool {
    // A process may have started another one before it ended, so look again after each end.
    while !isEmpty {
      guard await Self.oneEnds(of: found, by: deadline) else { return isEmpty }
    }
    return true
  }

  /// Returns true as soon as one of the processes has ended, or false at the deadline. It waits in a thread of its own
  /// and ignores cancellation, because the processes must end in any case.
  @discardableResult
  private static func oneEnds(of processes: [pid_t], by deadline: ContinuousClock.Instant?) async -> Bool {
    var ends: [pollfd] = []
    defer { for end in ends { close(end.fd) } }
    for process in processes {
      let descriptor = kinship_process_descriptor(process)
      if descriptor < 0, errno == ESRCH { return true }
      precondition(descriptor >= 0, "pidfd_open of process \(process): \(String(cString: strerror(errno)))")
      ends.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0))
    }
    if ends.isEmpty { return true }
    let list = ends
    return await withCheckedContinuation { continuation in
      Thread.detachNewThread { continuation.resume(returning: isReady(list, by: deadline)) }
    }
  }

  /// Returns true as soon as one of the descriptors can be read, or false at the deadline.
  private static func isReady(_ descriptors: [pollfd], by deadline: ContinuousClock.Instant?) -> Bool {
    var list = descriptors
    while true {
      // The milliseconds are rounded up, so that none are left at the deadline.
      let left = deadline.map { Int32(clamping: Int(((.now - $0) * -1000) / .seconds(1)) + 1) }
      let count = poll(&list, nfds_t(list.count), left.map { max($0, 0) } ?? -1)
      if count > 0 { return true }
      if count == 0, let deadline, ContinuousClock.now >= deadline { return false }
    }
  }
}
