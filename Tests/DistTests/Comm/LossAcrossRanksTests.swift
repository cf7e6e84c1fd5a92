import TestSupport
import Testing

extension MPITests {
  /// An objective of all terms and every gradient, towers and heads included, on R ranks against one rank: global
  /// batches that R does not divide and that are smaller than R, tiles smaller than the batch.
  @Suite(.serialized)
  struct LossAcrossRanksTests {
    @Test(arguments: [1, 2, 3], [("loss-float", 1e-5), ("loss-double", 1e-10)])
    func lossAndGradientsEqualOneRank(ranks: Int, precision: (probe: String, tolerance: Double)) async throws {
      for (pairs, tile) in [(11, 2048), (11, 3), (2, 2048)] {
        let run = try await MPIRun.probe(precision.probe, ["\(pairs)", "\(tile)"], ranks: ranks)
        #expect(run.status == 0, "\(run)")
        var compared = 0
        for line in run.lines {
          let words = line.split(separator: " ")
          let difference = try #require(Double(words[1]))
          #expect(difference <= precision.tolerance, "\(pairs) pairs, tile \(tile), \(ranks) ranks: \(line)")
          compared += 1
        }
        // The loss; 12 parameters of each of 2 + 2 blocks, 8 more of the vision tower, 5 of the text tower, the scale;
        // two heads, two fusions and their scales.
        #expect(compared == 1 + 48 + 8 + 5 + 1 + 4 + 4 + 2)
      }
    }
  }
}
