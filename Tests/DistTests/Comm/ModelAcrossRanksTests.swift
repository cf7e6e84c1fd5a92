import TestSupport
import Testing

extension MPITests {
  /// Compares an objective of all terms and every gradient, including towers and heads, on R ranks with one rank.
  /// Global batches are not divisible by R or are smaller than R, and tiles are smaller than the batch.
  @Suite struct LossAcrossRanksTests {
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
        // The lines are the loss; 12 parameters of each of 2 + 2 blocks, 8 more of the vision tower, 5 of the text
        // tower, the scale; two heads, two fusions and their scales.
        #expect(compared == 1 + 48 + 8 + 5 + 1 + 4 + 4 + 2)
      }
    }
  }
}

extension MPITests {
  /// Compares a ResNet with statistics of all ranks on R ranks with one rank, for batches that are not divisible by R
  /// and for ranks without an image.
  @Suite struct ResNetAcrossRanksTests {
    @Test(arguments: [1, 2, 3], [("resnet-float", 1e-4), ("resnet-double", 1e-9)])
    func featuresGradientsAndStatisticsEqualOneRank(
      ranks: Int, precision: (probe: String, tolerance: Double)
    ) async throws {
      for images in [7, 2] {
        let run = try await MPIRun.probe(precision.probe, ["\(images)"], ranks: ranks)
        #expect(run.status == 0, "\(run)")
        for line in run.lines {
          let difference = try #require(line.split(separator: " ").last.flatMap { Double($0) })
          #expect(difference <= precision.tolerance, "\(images) images, \(ranks) ranks: \(line)")
        }
        // The lines are the features; three convolutions of the stem and of each of five blocks, and four of shortcuts,
        // each with the weight and bias of its norm, 9 of the pool; and three buffers of each norm.
        let convolutions = 3 + 5 * 3 + 4
        #expect(run.lines.count == 1 + convolutions * 6 + 9)
      }
    }
  }
}
