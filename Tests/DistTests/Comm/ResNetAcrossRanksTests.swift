import TestSupport
import Testing

extension MPITests {
  /// A ResNet with statistics of all ranks on R ranks against one rank: batches that R does not divide, and ranks
  /// without a picture.
  @Suite(.serialized)
  struct ResNetAcrossRanksTests {
    @Test(arguments: [1, 2, 3], [("resnet-float", 1e-4), ("resnet-double", 1e-9)])
    func featuresGradientsAndStatisticsEqualOneRank(
      ranks: Int, precision: (probe: String, tolerance: Double)
    ) async throws {
      for pictures in [7, 2] {
        let run = try await MPIRun.probe(precision.probe, ["\(pictures)"], ranks: ranks)
        #expect(run.status == 0, "\(run)")
        for line in run.lines {
          let difference = try #require(line.split(separator: " ").last.flatMap { Double($0) })
          #expect(difference <= precision.tolerance, "\(pictures) pictures, \(ranks) ranks: \(line)")
        }
        // The features; three convolutions of the stem, of each of five blocks, and four of shortcuts, each with weight
        // and bias of its norm, 9 of the pool; and three buffers of each norm.
        let convolutions = 3 + 5 * 3 + 4
        #expect(run.lines.count == 1 + convolutions * 6 + 9)
      }
    }
  }
}
