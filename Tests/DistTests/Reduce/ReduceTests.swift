import Dist
import Foundation
import TestSupport
import Testing

extension MPITests {
  /// Buckets and touched rows in real jobs, compared with plain sums in `ReduceProbes`.
  @Suite struct ReduceTests {
    /// Sums, values and bytes are the same with and without overlap, and in short messages.
    @Test(arguments: [1, 2, 3]) func bucketsAreExchanged(ranks: Int) async throws {
      let plain = try await MPIRun.probe("buckets", ["apart"], ranks: ranks)
      #expect(plain.status == 0, "\(plain)")
      #expect(
        plain.lines.count == ranks && plain.lines.allSatisfy { $0.hasSuffix("sums true values true") }, "\(plain)")
      for arguments in [["together"], ["together", "7"], ["apart", "7"]] {
        let run = try await MPIRun.probe("buckets", arguments, ranks: ranks)
        #expect(run.lines == plain.lines, "\(arguments)")
      }
    }

    /// A matrix of 40 rows of 5 numbers, which pieces cut. The ranks touch few rows, none, or so many that the whole
    /// matrix is reduced.
    @Test(arguments: [1, 2, 3, 4], ["3", "0", "40"])
    func onlyTouchedRowsAreReduced(ranks: Int, touched: String) async throws {
      let run = try await MPIRun.probe("rows", [touched], ranks: ranks)
      #expect(run.status == 0, "\(run)")
      #expect(run.lines.count == ranks && run.lines.allSatisfy { $0.contains("exact true") }, "\(run)")
      let split = try await MPIRun.probe("rows", [touched, "3"], ranks: ranks)
      #expect(split.lines == run.lines)
      for line in run.lines {
        let found = try #require(line.firstMatch(of: #/received ([0-9]+) at most ([0-9]+) dense ([0-9]+)/#))
        let (bytes, most, dense) = (Int(found.1) ?? -1, Int(found.2) ?? -1, Int(found.3) ?? -1)
        #expect(bytes <= most, "\(line)")
        if ranks > 1, touched == "3" { #expect(bytes < dense, "\(line)") }
        if touched == "40" { #expect(bytes >= dense, "\(line)") }
      }
    }

    @Test(arguments: [[], [0], [2], [1, 2]]) func differingReplicasAreNamed(wrong: [Int]) async throws {
      let run = try await MPIRun.probe("replicas", wrong.map(String.init), ranks: 4)
      #expect(run.status == (wrong.isEmpty ? 0 : 70), "\(run)")
      // In a tie of two and two, the lowest rank counts as right.
      let named = wrong.map { "rank \($0) on " }
      #expect(wrong.isEmpty || run.errors.contains("after step 7 not all ranks have the same parameters: "), "\(run)")
      let message = run.errors.split(separator: "\n").first { $0.contains("after step 7") } ?? ""
      for rank in 0..<4 {
        #expect(
          message.split(separator: "parameters").last?.contains("rank \(rank) on ") ?? false
            == wrong.contains(rank), "\(run)")
      }
      #expect(named.allSatisfy(message.contains), "\(run)")
    }
  }
}
