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
  // An orderly end with a code from the last rank; the others come later.
  "orderly": { communicator, arguments in
    if communicator.rank == communicator.size - 1 { return Int32(arguments[0])! }
    Thread.sleep(forTimeInterval: 2)
    say("\(communicator.rank) came")
    return 0
  },
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
  // The last rank is stopped while the others wait for it; the watchdog's deadline is the argument.
  "stopped": { communicator, arguments in
    Watchdog.start(deadline: Double(arguments[0])!, over: communicator)
    let copy = try communicator.duplicate(name: "gradients")
    Progress.enter(.training, after: 5)
    try copy.barrier()
    if communicator.rank == communicator.size - 1 { kill(getpid(), SIGSTOP) }
    try communicator.barrier()
    return 0
  },
  // The last rank does nothing for some time, outside of MPI, which is the second argument.
  "idle": { communicator, arguments in
    Watchdog.start(deadline: Double(arguments[0])!, over: communicator)
    Progress.enter(.training, after: 5)
    if communicator.rank == communicator.size - 1 { Thread.sleep(forTimeInterval: Double(arguments[1])!) }
    try communicator.barrier()
    say("\(communicator.rank) is done")
    Thread.sleep(forTimeInterval: 0.5)
    return 0
  },
  // The last rank takes long, but gets on.
  "slow": { communicator, arguments in
    Watchdog.start(deadline: Double(arguments[0])!, over: communicator)
    Progress.enter(.training, after: 5)
    for _ in 0..<30 {
      Thread.sleep(forTimeInterval: 0.1)
      Progress.made()
      try communicator.barrier()
    }
    return 0
  },
  "yield": { _, _ in
    say(ProcessInfo.processInfo.environment["OMPI_MCA_mpi_yield_when_idle"] ?? "unset")
    return 0
  },
]

private struct Trouble: ExitCoded, CustomStringConvertible {
  var exitCode: Int32
  var description: String { "no bread in the house" }
}

private enum Unnumbered: Error { case trouble }
