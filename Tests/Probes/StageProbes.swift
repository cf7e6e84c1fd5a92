import Dist
import Foundation

/// A dataset that is copied to another folder, and read from there.
let stageProbes: [String: Scenario] = [
  // DATASET PARENT END [FREE]: at the END `release`, the copies are removed; at `leave`, the job ends as if it were
  // killed, and at `fail` with an error of all ranks. FREE is the number of free bytes on the disk.
  "stage": { communicator, arguments in
    let dataset = try Dataset.open(arguments[0], over: communicator)
    let staging = try Staging(
      [dataset.source, dataset.source], to: { arguments[1] }, over: communicator,
      pause: { done, all in guard done <= all else { throw Different() } },
      available: { path throws(FileError) in
        try arguments.count > 3 ? Int(arguments[3])! : Publish.available(at: path)
      })
    let staged = dataset.reading(from: staging.folders[1])
    guard staged.folder != dataset.folder, staged.fingerprint == dataset.fingerprint else { throw Different() }
    for sample in 0..<dataset.count {
      guard try staged.image(sample) == dataset.image(sample) else { throw Different() }
    }
    say("\(communicator.rank): \(staging.copied) bytes on \(staging.nodes)")
    try communicator.barrier()
    if arguments[2] == "fail" { throw Different() }
    if arguments[2] == "release" { Staging.release() }
    return 0
  }
]

private struct Different: Error {}
