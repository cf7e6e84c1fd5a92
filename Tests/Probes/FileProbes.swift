import Dist

/// Files that ranks open, each by an argument of its own.
let fileProbes: [String: Scenario] = [
  // FILE…: the checksum that one of the ranks with the same file gives is its rank.
  "same-file": { communicator, arguments in
    let path = arguments[communicator.rank]
    let sum = try communicator.sha256(of: path) { "\(communicator.rank)" }
    say("\(communicator.rank): \(sum)")
    try communicator.requireSameFile("list", path)
    return 0
  }
]
