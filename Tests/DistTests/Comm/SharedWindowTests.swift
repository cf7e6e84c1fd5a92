import TestSupport
import Testing

extension MPITests {
  /// One copy of a model's weights for the ranks of a node: the machine as it is, and split as if it were several.
  @Suite(.serialized)
  struct SharedWindowTests {
    @Test(arguments: [[1], [2], [3], [2, 1], [1, 1, 1]])
    func ranksOfANodeComputeFromOneCopy(nodes: [Int]) async throws {
      let run = try await MPIRun.probe("shared-weights", nodes.map(String.init), ranks: nodes.reduce(0, +))
      #expect(run.status == 0, "\(run)")
      let groups = nodes.enumerated().flatMap { number, size in Array(repeating: number, count: size) }
      #expect(run.lines == groups.enumerated().map { rank, group in "\(rank): true \(Double(group) + 0.5)" })
    }

    /// Found before a page is touched that the file system does not have: that would be a bus error.
    @Test(arguments: [1, 2])
    func tooSmallAFileSystemIsFoundFirst(ranks: Int) async throws {
      let run = try await MPIRun.probe("shared-memory-too-small", ranks: ranks)
      #expect(run.status == 74, "\(run)")
      #expect(run.lines.allSatisfy { $0.hasSuffix("2 MiB fit") })
      for words in [
        "no shared memory for the ranks of", "/shared has 20 MiB free, and 1041 MiB are needed", "--shm-size=1280m",
        "mount -o remount,size=1280m /shared",
      ] {
        #expect(run.errors.contains(words), "“\(words)” is not in \(run)")
      }
    }
  }
}
