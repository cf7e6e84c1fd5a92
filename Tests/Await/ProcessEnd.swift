import CProcess
import Foundation

/// The end of a process, which need not be a child of ours.
struct ProcessEnd: ~Copyable {
  /// Readable when it has come; nil where the process was gone already.
  let descriptor: Int32?

  init(of process: pid_t) throws(SystemError) {
    let found = kinship_process_descriptor(process)
    if found < 0, errno != ESRCH { throw SystemError("pidfd_open of \(process)") }
    descriptor = found < 0 ? nil : found
  }

  deinit { if let descriptor { close(descriptor) } }

  var hasCome: Bool {
    get throws(SystemError) {
      guard let descriptor else { return true }
      return try ready(descriptor, or: nil, waiting: false)
    }
  }

  /// Returns when all of the processes have ended.
  static func ofAll(_ processes: [pid_t]) throws(SystemError) {
    for process in processes {
      let end = try ProcessEnd(of: process)
      if let descriptor = end.descriptor { try ready(descriptor, or: nil) }
    }
  }
}

/// Returns when each of the processes is stopped, with all its threads, or has ended.
///
/// A signal stops a process some time after it was sent, and tells only the parent: for others there is no event, and
/// all they can do is look again. This lasts as long as the kernel takes to deliver the signal.
func awaitStop(of processes: [pid_t]) {
  for process in processes {
    let folder = "/proc/\(process)/task"
    while true {
      let threads = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
      let runs = threads.contains { thread in
        let status = FileManager.default.contents(atPath: "\(folder)/\(thread)/stat") ?? Data()
        // The state follows the program's name in parentheses, which may hold anything.
        let state = String(decoding: status, as: UTF8.self).split(separator: ")").last?.dropFirst().first
        return state.map { !"TtZX".contains($0) } ?? false
      }
      if !runs { break }
      sched_yield()
    }
  }
}

/// Waits until one of two descriptors can be read, or looks whether one can.
@discardableResult
func ready(_ one: Int32, or other: Int32?, waiting: Bool = true) throws(SystemError) -> Bool {
  // A negative descriptor is passed over.
  var list = [one, other ?? -1].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
  while true {
    let count = unsafe poll(&list, nfds_t(list.count), waiting ? -1 : 0)
    if count >= 0 { return count > 0 }
    if errno != EINTR { throw SystemError("poll") }
  }
}

/// The system refuses something.
struct SystemError: Error, CustomStringConvertible {
  let description: String

  init(_ call: String) {
    let reason = unsafe String(cString: strerror(errno))
    description = "\(call): \(reason)"
  }
}
