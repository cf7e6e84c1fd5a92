import Dist
import Foundation
import Tensor

/// Whatever starts threads, where the system refuses all of them.
let threadProbes: [String: Scenario] = [
  // FOLDER [throw]: says what becomes of each, or ends with an error.
  "threads": { communicator, arguments in
    let own = try communicator.duplicate(name: "work")
    let factor = Tensor<Float>(Shape(96, 96))
    fill(factor, 0.5)
    let (before, after) = (Tensor<Float>(factor.shape), Tensor<Float>(factor.shape))
    matmul(factor, factor, into: before)
    try refusingThreads {
      let loader = Prefetcher<Int, ProbedBatch>(
        steps: 0..<2, batches: [ProbedBatch(), ProbedBatch()], workers: 3,
        append: { step, items in items.append(step) }, worker: { return { _, _, _ in } })
      if arguments.count > 1 { _ = try loader.next() }
      say("loader: \(outcome { _ = try loader.next() })")

      Threads.count = 4
      matmul(factor, factor, into: after)
      say("compute: \(Threads.count) of 4, the same product: \(before.array == after.array)")

      let thread = CommunicationThread("work", over: own)
      thread.submit { _ in say("work was done") }
      say("communication: \(outcome { try thread.wait() })")

      let isWatched = Watchdog.start(deadline: 60, over: communicator) { say("watchdog: \($0)") }
      say("watched: \(isWatched)")

      say("lock: \(outcome { _ = try FolderLock(arguments[0], over: communicator) })")
      say("left in the folder: \(try FileManager.default.contentsOfDirectory(atPath: arguments[0]))")
    }
    return 0
  }
]

private final class ProbedBatch: Sendable {}

private func outcome(_ body: () throws -> Void) -> String {
  do { try body() } catch { return "\(error)" }
  return "no error"
}

/// Runs `body` with so few addresses that no stack of a thread fits.
private func refusingThreads(_ body: () throws -> Void) throws {
  let resource = __rlimit_resource_t(RLIMIT_AS.rawValue)
  var former = rlimit()
  guard unsafe getrlimit(resource, &former) == 0 else { exit(71) }
  let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
  let line = status.split(separator: "\n").first { $0.hasPrefix("VmSize:") }
  let words = line?.split(whereSeparator: \.isWhitespace) ?? []
  guard words.count > 1, let kibibytes = rlim_t(words[1]) else { exit(71) }
  var limit = rlimit(rlim_cur: kibibytes << 10 + 3 << 20, rlim_max: former.rlim_max)
  guard unsafe setrlimit(resource, &limit) == 0 else { exit(71) }
  // Stacks of threads that have ended would be used again.
  for bytes in [nil, 4 << 20] as [Int?] {
    while true {
      do { try SystemThread.start("filler", stackBytes: bytes) { while true { pause() } } } catch { break }
    }
  }
  defer { _ = unsafe setrlimit(resource, &former) }
  try body()
}
