import Dist
import Foundation
import Tensor

/// The ways in which a rank can end or stop.
let failureProbes: [String: Scenario] = [
  // The last rank throws while the others wait for it.
  "throw": { communicator, arguments in
    if communicator.rank == communicator.size - 1 { throw Trouble(status: ExitStatus(rawValue: Int32(arguments[0])!)!) }
    try communicator.barrier()
    return 0
  },
  "throw-together": { _, arguments in throw Trouble(status: ExitStatus(rawValue: Int32(arguments[0])!)!) },
  // The last rank throws when no other is at work any more.
  "throw-at-last": { communicator, arguments in
    guard communicator.rank == communicator.size - 1 else { return 0 }
    throw Trouble(status: ExitStatus(rawValue: Int32(arguments[0])!)!)
  },
  "throw-uncoded": { communicator, _ in
    if communicator.rank == communicator.size - 1 { throw Unnumbered.trouble }
    try communicator.barrier()
    return 0
  },
  // The last rank is killed while the others wait for it.
  "killed": { communicator, _ in
    if communicator.rank == communicator.size - 1 { kill(getpid(), SIGKILL) }
    try communicator.barrier()
    return 0
  },
  // The last rank exits without a message while the others wait for it.
  "leave": { communicator, _ in
    if communicator.rank == communicator.size - 1 { exit(0) }
    try communicator.barrier()
    return 0
  },
  // CODE PIPE: the last rank ends in order with an exit code. The others return as soon as it waits for them.
  "orderly": { communicator, arguments in
    let pipe = arguments[1]
    guard communicator.rank == communicator.size - 1 else {
      close(unsafe open(pipe, O_RDONLY))
      say("\(communicator.rank) came")
      return 0
    }
    Watchdog.start(deadline: 0.2, over: communicator) { line in
      // Until it waits within MPI, it must not count as standing still.
      guard line.contains("(inside)") else { return Progress.made() }
      // The pipe stays open until all the others have opened it, and this thread has nothing more to report.
      _ = unsafe open(pipe, O_WRONLY)
      waitForEver()
    }
    Progress.enter(.training, after: 0)
    return Int32(arguments[0])!
  },
  "endless": { _, _ in waitForEver() },
  "bad-root": { communicator, _ in
    try communicator.barrier()
    try communicator.broadcast(Tensor<Float>(Shape(4)), root: 9)
    return 0
  },
  // Ranks disagree about the size of a message.
  "disagree": { communicator, _ in
    try communicator.broadcast(Tensor<Float>(Shape(communicator.rank == 0 ? 4000 : 2)))
    return 0
  },
  // DEADLINE PIPE: the last rank is stopped while the others wait for it.
  "stopped": { communicator, arguments in
    let copy = try communicator.duplicate(name: "gradients")
    Progress.enter(.training, after: 5)
    try copy.barrier()
    watch(communicator, speakers: communicator.size - 1, arguments)
    if communicator.rank == communicator.size - 1 { kill(getpid(), SIGSTOP) }
    try communicator.barrier()
    return 0
  },
  // DEADLINE PIPE: the last of two ranks hangs outside of MPI.
  "hanging": { communicator, arguments in
    Progress.enter(.training, after: 5)
    watch(communicator, speakers: 2, arguments)
    if communicator.rank == communicator.size - 1 { waitForEver() }
    try communicator.barrier()
    return 0
  },
  // DEADLINE: the last rank idles outside of MPI until its watchdog has reported it. Only this rank has a watchdog.
  "idle": { communicator, arguments in
    guard communicator.rank == communicator.size - 1 else {
      try communicator.barrier()
      say("\(communicator.rank) is done")
      return 0
    }
    let noticed = DispatchSemaphore(value: 0)
    let back = DispatchSemaphore(value: 0)
    let goesOn = DispatchSemaphore(value: 0)
    Progress.enter(.training, after: 5)
    Watchdog.start(deadline: Double(arguments[0])!, over: communicator) { line in
      report(line)
      if line.contains("no progress") {
        noticed.signal()
        back.wait()
      } else {
        goesOn.signal()
      }
    }
    noticed.wait()
    try communicator.barrier()
    back.signal()
    goesOn.wait()
    say("\(communicator.rank) is done")
    return 0
  },
  // DEADLINE …: prints for each deadline whether the watchdog starts.
  "watched": { communicator, arguments in
    for deadline in arguments {
      say("\(deadline): \(Watchdog.start(deadline: Double(deadline)!, over: communicator, report: report))")
    }
    return 0
  },
  "yield": { _, _ in
    say(ProcessInfo.processInfo.environment["OMPI_MCA_mpi_yield_when_idle"] ?? "unset")
    return 0
  },
]

/// Prints a line of a watchdog to standard error.
@Sendable private func report(_ line: String) { FileHandle.standardError.write(Data("\(line)\n".utf8)) }

/// Starts the watchdog of this rank. It ends the job only after each of the ranks below `speakers`, which is one or
/// two, has reported that it stands still. The arguments are the deadline and a named pipe.
private func watch(_ communicator: Communicator, speakers: Int, _ arguments: [String]) {
  let (rank, pipe) = (communicator.rank, arguments[1])
  Watchdog.start(deadline: Double(arguments[0])!, over: communicator) { line in
    report(line)
    // One end of the pipe can only be opened together with the other.
    if speakers == 2, line.contains("no progress") {
      close(unsafe open(pipe, rank == 0 ? O_RDONLY : O_WRONLY))
    }
  }
}

private func waitForEver() -> Never {
  while true { pause() }
}

private struct Trouble: ExitCoded, CustomStringConvertible {
  var status: ExitStatus
  var description: String { "no bread in the house" }
}

private enum Unnumbered: Error { case trouble }
