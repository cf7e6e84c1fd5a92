import Dist
import Foundation
import Tensor

/// Ways in which a rank can end.
let failureProbes: [String: Scenario] = [
  // The last rank throws while the others wait for it.
  "throw": { communicator, arguments in
    if communicator.rank == communicator.size - 1 { throw Trouble(exitCode: Int32(arguments[0])!) }
    try communicator.barrier()
    return 0
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
  // The last rank leaves without a word while the others wait for it.
  "leave": { communicator, _ in
    if communicator.rank == communicator.size - 1 { exit(0) }
    try communicator.barrier()
    return 0
  },
  // CODE PIPE: an orderly end with a code from the last rank; the others come once it waits for them.
  "orderly": { communicator, arguments in
    let pipe = arguments[1]
    guard communicator.rank == communicator.size - 1 else {
      close(unsafe open(pipe, O_RDONLY))
      say("\(communicator.rank) came")
      return 0
    }
    Watchdog.start(deadline: 0.2, over: communicator) { line in
      // Before it waits within MPI, its standing still is none.
      guard line.contains("(inside)") else { return Progress.made() }
      // It stays open until all the others have opened it, and this thread has nothing more to say.
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
  // DEADLINE PIPE: the last of two ranks does nothing any more, outside of MPI.
  "hanging": { communicator, arguments in
    Progress.enter(.training, after: 5)
    watch(communicator, speakers: 2, arguments)
    if communicator.rank == communicator.size - 1 { waitForEver() }
    try communicator.barrier()
    return 0
  },
  // DEADLINE: the last rank does nothing, outside of MPI, until its watchdog has said so. Only this rank is watched.
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
  // Whether anything is watched, by the deadline.
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

/// Says what a watchdog says.
@Sendable private func report(_ line: String) { FileHandle.standardError.write(Data("\(line)\n".utf8)) }

/// Starts the watchdog of this rank. It ends the job only when each of the ranks below `speakers`, one or two, has said
/// that it stands still. The arguments are the deadline and a pipe with a name.
private func watch(_ communicator: Communicator, speakers: Int, _ arguments: [String]) {
  let (rank, pipe) = (communicator.rank, arguments[1])
  Watchdog.start(deadline: Double(arguments[0])!, over: communicator) { line in
    report(line)
    // Each end of the pipe can be opened when the other is.
    if speakers == 2, line.contains("no progress") {
      close(unsafe open(pipe, rank == 0 ? O_RDONLY : O_WRONLY))
    }
  }
}

private func waitForEver() -> Never {
  while true { pause() }
}

private struct Trouble: ExitCoded, CustomStringConvertible {
  var exitCode: Int32
  var description: String { "no bread in the house" }
}

private enum Unnumbered: Error { case trouble }
