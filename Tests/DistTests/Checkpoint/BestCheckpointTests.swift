import Foundation
import TestSupport
import Testing

@testable import Dist

/// The link `best` among a run's checkpoints, and what the retention then keeps.
@Suite struct BestCheckpointTests {
  let folder = try! TemporaryFolder()
  private var run: String { folder.url.path }
  private var folders: CheckpointFolders { CheckpointFolders(run: run) }

  private func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: run).sorted() }
  private func figure(_ step: Int) -> BestFigure { BestFigure(metric: "a/b", step: step, value: 0.1 + Double(step)) }

  private func make(_ steps: ClosedRange<Int>) throws {
    for step in steps { try folder.write("\(folders.name(step))/manifest.json", []) }
  }

  private var figures: [Int] {
    (1...9).filter { FileManager.default.fileExists(atPath: "\(folders.path(folders.name($0)))/best.json") }
  }

  @Test func theBestOneRemainsAndIsNotCounted() throws {
    try make(1...6)
    try folders.mark(best: figure(2))
    #expect(BestFigure.marked(in: run) == figure(2))
    #expect(folders.prune(behind: 6, CheckpointRetention(newest: 2)) == [])
    #expect(try names() == ["best"] + [2, 5, 6].map(folders.name))
    #expect(folders.candidates() == [6, 5, 2].map(folders.name), "the mark is none to resume from first")

    // A new best one takes the mark, and the earlier one is as any other.
    try folders.mark(best: figure(6))
    #expect(BestFigure.marked(in: run) == figure(6) && figures == [6])
    #expect(folders.prune(behind: 6, CheckpointRetention(newest: 1)) == [])
    #expect(try names() == ["best"] + [5, 6].map(folders.name))
    #expect(Checkpoint.exists(step: 5, in: run) && !Checkpoint.exists(step: 2, in: run))

    // The mark may be set again, as after a kill, and taken away.
    try folders.mark(best: figure(6))
    #expect(figures == [6])
    try folders.mark(best: nil)
    try folders.mark(best: nil)
    #expect(BestFigure.marked(in: run) == nil)
    #expect(try names() == [5, 6].map(folders.name))
  }

  /// A mark whose checkpoint has been lost protects nothing, and gives way to the next.
  @Test func aMarkThatLeadsNowhere() throws {
    try make(1...3)
    try folders.mark(best: figure(1))
    try FileManager.default.removeItem(atPath: folders.path(folders.name(1)))
    #expect(BestFigure.marked(in: run) == nil)
    try folders.mark(best: figure(3))
    #expect(BestFigure.marked(in: run) == figure(3))
    #expect(try names() == ["best"] + [2, 3].map(folders.name))
  }
}
