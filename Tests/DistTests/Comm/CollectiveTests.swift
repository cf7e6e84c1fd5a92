import Dist
import TestSupport
import Testing

extension MPITests {
  /// Tests each collective on 1, 2 and 3 ranks, with blocks of unequal size (7 rows) and with fewer rows than ranks.
  /// The expected numbers follow from the probes' rule: element i of rank r is 1000 (r + 1) + i.
  @Suite struct CollectiveTests {
    @Test(arguments: [1, 2, 3], ["sum-float", "sum-double"])
    func sumsTensors(ranks: Int, probe: String) async throws {
      let sums = (0..<7).map { place in Double((0..<ranks).reduce(0) { $0 + value($1, place) }) }
      try await expect(probe, ["7"], ranks) { _ in "\(sums)" }
    }

    @Test(arguments: [1, 2, 3])
    func reducesArrays(ranks: Int) async throws {
      let sums = (0..<5).map { place in (0..<ranks).reduce(0) { $0 + value($1, place) } }
      let doubles = sums.map { Double($0) + 0.25 * Double(ranks) }
      let integers = sums.map { $0 + ranks << 40 }
      let largest = (0..<5).map { Double(value(ranks - 1, $0)) }
      try await expect("sum-arrays", ["5"], ranks) { _ in "\(doubles) \(integers) \(largest)" }
    }

    @Test(arguments: [1, 2, 3], ["gather-rows", "gather-rows-in-place"])
    func gathersRows(ranks: Int, probe: String) async throws {
      for rows in [7, 2] {
        let all = (0..<rows * 3).map { Float(value(owner(of: $0 / 3, rows, ranks), $0)) }
        try await expect(probe, ["\(rows)"], ranks) { _ in "\(all)" }
      }
    }

    @Test(arguments: [1, 2, 3])
    func gathersVectors(ranks: Int) async throws {
      for length in [7, 2] {
        let all = (0..<length).map { Double(value(owner(of: $0, length, ranks), $0)) }
        try await expect("gather-vector", ["\(length)"], ranks) { _ in "\(all)" }
      }
    }

    @Test(arguments: [1, 2, 3])
    func gathersSlicesAndLeavesTheRest(ranks: Int) async throws {
      var all: [Float] = []
      for rank in (0..<ranks).reversed() {
        all.append(-1)
        for _ in 0..<rank * 2 { all.append(Float(value(rank, all.count))) }
      }
      try await expect("gather-slices", ["2"], ranks) { _ in "\(all)" }
    }

    @Test(arguments: [1, 2, 3])
    func scattersSums(ranks: Int) async throws {
      try await expect("reduce-scatter", ["3"], ranks) { rank in
        let start = 3 * rank * (rank - 1) / 2
        let own = (start..<start + 3 * rank).map { place in
          Double((0..<ranks).reduce(0) { $0 + value($1, place) })
        }
        return "\(own) true"
      }
    }

    @Test(arguments: [1, 2, 3])
    func broadcasts(ranks: Int) async throws {
      let tensor = (0..<5).map { Float(value(ranks - 1, $0)) }
      try await expect("broadcast", ["5"], ranks) { _ in "\(tensor) \([0, 1, 2, 3, 4])" }
    }

    @Test(arguments: [1, 2, 3])
    func gathersBytes(ranks: Int) async throws {
      let all = (0..<ranks).map { [UInt8](repeating: UInt8($0 + 1), count: $0 * 4) }
      try await expect("all-gather", ["4"], ranks) { _ in "\(all)" }
    }

    /// Bytes of unequal lengths arrive on rank 0 alone, as do the rows of a distributed matrix, whole or in messages of
    /// at most three elements; all ranks get its tiles, also after it was dealt anew.
    @Test(arguments: [1, 2, 3], [[], ["3"]])
    func gathersOnRankZero(ranks: Int, limit: [String]) async throws {
      let bytes = (0..<ranks).map { [UInt8](repeating: UInt8($0 + 1), count: $0 * 4) }
      let all = (0..<ranks * (ranks - 1)).map { Float($0) }
      let middle = ranks * (ranks - 1) / 2 / 2 * 2
      let tiles = [Array(all[..<middle]), Array(all[middle...])]
      try await expect("gather-on-root", ["4"] + limit, ranks) { rank in
        rank == 0
          ? "\(bytes) \(tiles) \(all) \(tiles[1])" : "\([[UInt8]]()) \([[Float](), [Float]()]) \(all) \(tiles[1])"
      }
    }

    @Test(arguments: [1, 2, 3, 4])
    func exchangesBlocks(ranks: Int) async throws {
      func length(_ from: Int, _ to: Int) -> Int { 4 * ((from + 2 * to) % 3) }
      try await expect("all-to-all", ["4"], ranks) { rank in
        let received = (0..<ranks).flatMap { from in
          let start = (0..<rank).reduce(0) { $0 + length(from, $1) }
          return (start..<start + length(from, rank)).map { Float(value(from, $0)) }
        }
        return "\(received)"
      }
    }

    /// A limit of 3 elements per message splits all of these, and must not change the results.
    @Test(arguments: [
      ["sum-float", "7"], ["sum-double", "7"], ["sum-arrays", "7"], ["gather-rows", "7"],
      ["gather-rows-in-place", "7"],
      ["gather-vector", "7"], ["gather-slices", "4"], ["reduce-scatter", "4"], ["broadcast", "7"], ["all-gather", "4"],
      ["all-to-all", "4"],
    ])
    func splitsLongMessages(probe: [String]) async throws {
      let whole = try await MPIRun.probe(probe[0], [probe[1]], ranks: 3)
      let split = try await MPIRun.probe(probe[0], [probe[1], "3"], ranks: 3)
      #expect(whole.status == 0 && split.status == 0, "\(whole)\n\(split)")
      #expect(split.lines.count == 3)
      #expect(split.lines == whole.lines)
    }

    @Test(arguments: [1, 2, 3])
    func knowsPlaceAndCountsCollectives(ranks: Int) async throws {
      let run = try await MPIRun.probe("place", ranks: ranks)
      #expect(run.status == 0, "\(run)")
      let ledgers = "ledgers duplicate #2, barrier #2 running false"
      #expect(run.lines == (0..<ranks).map { "rank \($0)/\(ranks) node \($0)/\(ranks) \(ledgers)" })
    }

    /// Ten floats and three doubles: splitting them into short messages does not change the volume.
    @Test(arguments: [[], ["3"]])
    func countsWhatOtherRanksSend(limit: [String]) async throws {
      let lines = [
        1: ["all-reduce 0, scatter 0, slices 0, numbers 0, broadcast 0, barrier 0"],
        2: [
          "all-reduce 40, scatter 20, slices 20, numbers 24, broadcast 0, barrier 0",
          "all-reduce 40, scatter 20, slices 20, numbers 24, broadcast 40, barrier 0",
        ],
        // Shares of 3, 3 and 4 elements.
        3: [
          "all-reduce 52, scatter 24, slices 28, numbers 32, broadcast 0, barrier 0",
          "all-reduce 52, scatter 24, slices 28, numbers 32, broadcast 40, barrier 0",
          "all-reduce 56, scatter 32, slices 24, numbers 32, broadcast 40, barrier 0",
        ],
      ]
      for (ranks, expected) in lines {
        try await expect("received", ["10"] + limit, ranks) { expected[$0] }
      }
    }

    private func expect(
      _ probe: String, _ arguments: [String], _ ranks: Int, _ line: (Int) -> String
    ) async throws {
      let run = try await MPIRun.probe(probe, arguments, ranks: ranks)
      #expect(run.status == 0, "\(run)")
      #expect(run.lines == (0..<ranks).map { "\($0): \(line($0))" })
    }

    private func value(_ rank: Int, _ place: Int) -> Int { (rank + 1) * 1000 + place }

    /// Returns the rank that owns a row: the last one whose first row is not beyond it.
    private func owner(of row: Int, _ rows: Int, _ ranks: Int) -> Int {
      (0..<ranks).last { Int((Double($0 * rows) / Double(ranks)).rounded(.down)) <= row }!
    }
  }
}

@Suite struct SliceTests {
  @Test(arguments: [0, 1, 2, 7, 13, 1000], [1, 2, 3, 5, 64])
  func slicesCoverAllRowsOnceAndEvenly(rows: Int, size: Int) {
    let slices = (0..<size).map { Communicator.slice(of: rows, rank: $0, size: size) }
    #expect(slices.flatMap { Array($0) } == Array(0..<rows))
    #expect(slices.map(\.count).max()! - slices.map(\.count).min()! <= 1)
  }

  @Test func slicesOfHugeCountsDoNotOverflow() {
    let half = Communicator.slice(of: Int.max, rank: 4095, size: 4096)
    #expect(half.upperBound == Int.max)
    #expect(half.count == 1 << 51)
  }
}

extension MPITests {
  /// Tests one copy of a model's weights for the ranks of a node, on this machine and on groups of ranks that stand for
  /// nodes.
  @Suite struct SharedWindowTests {
    @Test(arguments: [[1], [2], [3], [2, 1], [1, 1, 1]])
    func ranksOfANodeComputeFromOneCopy(nodes: [Int]) async throws {
      let run = try await MPIRun.probe("shared-weights", nodes.map(String.init), ranks: nodes.reduce(0, +))
      #expect(run.status == 0, "\(run)")
      let groups = nodes.enumerated().flatMap { number, size in Array(repeating: number, count: size) }
      #expect(run.lines == groups.enumerated().map { rank, group in "\(rank): true \(Double(group) + 0.5)" })
    }

    /// The error must come before a page is touched that the file system cannot provide, which is a bus error.
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

    @Test func anMPIWithoutSharedWindows() async throws {
      let run = try await MPIRun.probe("shared-memory-too-small", ranks: nil, environment: ["OMPI_MCA_osc": "^sm"])
      #expect(run.status == 74, "\(run)")
      #expect(run.errors.contains(/no shared memory .*: Open MPI v.* makes no shared window \(MPI_ERR_/), "\(run)")
    }
  }
}
