import Dist
import Foundation

/// The disk space that a run's checkpoints will take, and what is free.
struct CheckpointSpace: Codable {
  let folder: String
  /// The bytes of a checkpoint, and the number of those that will be on the disk at once.
  let bytes, count: Int
  /// The number of those that are there already, and the bytes that are free beside them.
  var present, free: Int

  /// Looks at the file system of a folder of checkpoints, which need not exist yet.
  init(in folder: String, bytes: Int, count: Int) throws {
    (self.folder, self.bytes, self.count) = (folder, bytes, count)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    present = names.count { $0.wholeMatch(of: /step-[0-9]+/) != nil }
    var place = folder
    while !FileManager.default.fileExists(atPath: place), Publish.folder(of: place) != place {
      place = Publish.folder(of: place)
    }
    free = try Publish.available(at: place)
  }

  /// Returns a warning if there is not room for all checkpoints. Throws a `UserError` (exit code 74) if there is none
  /// for the next, which is written before an earlier one is removed.
  func warning() throws -> String? {
    let place = "the file system of \(folder) has \(Figures.bytes(free)) free"
    guard bytes <= free else {
      throw UserError(
        "a checkpoint of this run takes \(Figures.bytes(bytes)), and \(place); free some space, or change output",
        status: .inputOutput)
    }
    let missing = max(count - present, 1)
    guard missing > free / bytes else { return nil }
    let kept = "\(Figures.count(count, "checkpoint")) of \(Figures.bytes(bytes))"
    return "warning: the run will have \(kept) on the disk at once, \(present) of which are there, and \(place): free "
      + "some space, or lower checkpoint.keep"
  }
}

extension CheckpointConfig {
  /// Returns a bound on the number of checkpoints of these steps that are on the disk at once: those that are kept, the
  /// best one, and one that is being written.
  func most(in steps: Range<Int>, _ evaluate: EvaluateConfig = EvaluateConfig()) -> Int {
    func multiples(of period: Int) -> Int { steps.upperBound / period - steps.lowerBound / period }
    // The last step is always saved.
    var bySteps = (every.map(multiples) ?? 0) + (every.map { steps.upperBound % $0 == 0 } ?? false ? 0 : 1)
    // Any evaluation may find a new best, which is then saved.
    if evaluate.keepBest != nil { bySteps += evaluate.every.map(multiples) ?? 0 }
    let kept = (keep ?? bySteps) + (keepEvery.map(multiples) ?? 0) + (evaluate.keepBest == nil ? 1 : 2)
    return minutes == nil ? min(kept, bySteps) : kept
  }
}
