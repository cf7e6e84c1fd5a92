import Dist
import Foundation
import TestSupport
import Testing

extension MPITests {
  /// Exchanges in two levels in real jobs, compared with plain sums in `NodeProbes`.
  @Suite struct NodeExchangeTests {
    /// The numbers of ranks on each node.
    static let nodes = [[1], [2], [1, 2], [1, 1, 1], [1, 1, 1, 1], [2, 2], [3, 1]]

    @Test(arguments: nodes, ["fp32", "bf16"]) func sumsAndValues(nodes: [Int], wire: String) async throws {
      let (ranks, counts) = (nodes.reduce(0, +), [0, 1, 103])
      let scalar = wire == "fp32" ? "double" : "float"
      let arguments = [
        scalar, wire, nodes.map(String.init).joined(separator: ","), counts.map(String.init).joined(separator: ","),
      ]
      let run = try await MPIRun.probe("node-exchange", arguments, ranks: ranks)
      #expect(run.status == 0, "\(run)")
      #expect(
        run.lines.count == counts.count * ranks
          && run.lines.allSatisfy { $0.contains(": sums true values true counted true ") }, "\(run)")
      // Within a node, each number is sent once to its relay by all other ranks; and each node sends all sums but its
      // own. Every rank receives each value once.
      let (stride, wireStride) = wire == "fp32" ? (8, 8) : (4, 2)
      for count in counts {
        let within = nodes.reduce(0) { $0 + ($1 - 1) * count * stride }
        let between = (nodes.count - 1) * count * wireStride
        let found = run.lines.filter { $0.contains(" \(count): ") }
          .compactMap { $0.firstMatch(of: #/reduced ([0-9]+) gathered ([0-9]+)/#) }
        #expect(found.reduce(0) { $0 + (Int($1.1) ?? 0) } == within + between, "\(run)")
        #expect(found.reduce(0) { $0 + (Int($1.2) ?? 0) } == (ranks - 1) * count * stride, "\(run)")
      }
      // Many rounds of few elements.
      let split = try await MPIRun.probe("node-exchange", arguments + ["7"], ranks: ranks)
      #expect(split.lines == run.lines, "\(split)")
    }

    /// The first rank of each rank's node; the last nodes have been dealt out in turn. Seven matrices are reduced with
    /// both scalars and forms, in whole and in split messages. `NodeProbes` has the plain sums and counts.
    @Test(arguments: [[0, 0], [0, 1, 1], [0, 0, 2, 2], [0, 0, 0, 3], [0, 1, 0, 3], [0, 1, 0, 1]])
    func rowsCrossTheNetworkOnceANode(firstRanks: [Int]) async throws {
      let list = firstRanks.map(String.init).joined(separator: ",")
      let run = try await MPIRun.probe("node-rows", [list], ranks: firstRanks.count)
      #expect(run.status == 0, "\(run)")
      #expect(run.lines.count == 7 * 2 * 2 * 2 * firstRanks.count, "\(run)")
      let wrong = run.lines.filter { !$0.hasSuffix(": sums true close true again true counted true bounded true") }
      #expect(wrong == [])
    }

    @Test(arguments: [
      ("bf16", "-", 1), ("bf16", "-", 3), ("bf16", "-", 4), ("fp32", "1,2", 3), ("bf16", "2,1", 3),
      ("bf16", "2,2", 4),
    ])
    func bucketsTakeTheirRoute(wire: String, nodes: String, ranks: Int) async throws {
      for scalar in ["float", "double"] {
        let plain = try await MPIRun.probe("node-buckets", [scalar, wire, nodes, "apart"], ranks: ranks)
        #expect(plain.status == 0, "\(plain)")
        #expect(
          plain.lines.count == ranks && plain.lines.allSatisfy { $0.hasSuffix("sums true values true exact true") },
          "\(plain)")
        let together = try await MPIRun.probe("node-buckets", [scalar, wire, nodes, "together", "7"], ranks: ranks)
        #expect(together.lines == plain.lines, "\(together)")
      }
    }
  }
}
