// Await VERB …: waits for what a run brings about, by the kernel's events. It never sleeps.
//
//   Await lines FILE COUNT TEXT [--after LINES] --while PID
//                                            FILE has COUNT whole lines with TEXT after its first LINES
//   Await path PATH --while PID              PATH exists
//   Await entries FOLDER COUNT --while PID   FOLDER has COUNT visible entries
//   Await match FOLDER SUFFIX --while PID    FOLDER has an entry whose name ends with SUFFIX
//   Await gone PID…                          none of the processes runs any more
//   Await stopped PID…                       each of the processes is stopped or has ended
//
// FILE, FOLDER, PATH and the folders above them need not exist yet; FILE may only grow. Exit status: 0 when it has
// come, 1 when the process PID ended first, 64 for wrong arguments, 74 where the system refuses to watch.
import Foundation

func fail(_ status: Int32, _ message: String) -> Never {
  FileHandle.standardError.write(Data("Await: \(message)\n".utf8))
  exit(status)
}

guard var request = Request(CommandLine.arguments.dropFirst()) else {
  fail(64, "wrong arguments: \(CommandLine.arguments.dropFirst().joined(separator: " "))")
}
do {
  switch request {
  case .gone(let processes): try ProcessEnd.ofAll(processes)
  case .stopped(let processes): awaitStop(of: processes)
  case .file(var condition, let process):
    let end = try ProcessEnd(of: process)
    let events = try FileEvents()
    while true {
      // In this order: what comes after the look makes an event, and the last look is one after the end.
      try events.follow(condition.path)
      let hasEnded = try end.hasCome
      if condition.holds() { exit(0) }
      if hasEnded { exit(1) }
      try events.wait(or: end)
    }
  }
} catch {
  fail(74, "\(error)")
}
