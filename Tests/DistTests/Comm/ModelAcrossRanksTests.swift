import TestSupport
import Testing

extension MPITests {
  /// Compares an objective of all terms and every gradient, including towers and heads, on R ranks with one rank.
  /// Global batches are not divisible by R or are smaller than R, and tiles are smaller than the batch.
  @Suite struct LossAcrossRanksTests {
    @Test(arguments: [1, 2, 3], [("loss-float", 1e-5), ("loss-double", 1e-10)])
    func lossAndGradientsEqualOneRank(ranks: Int, precision: (probe: String, tolerance: Double)) async throws {
      for (pairs, tile) in [(11, 2048), (11, 3), (2, 2048)] {
        try await compare(precision.probe, ["\(pairs)", "\(tile)"], ranks, precision.tolerance)
      }
    }

    /// Weights that multiply other terms' rows, and learned scales of the intra-modal term.
    @Test(arguments: [2, 3]) func otherReadingsEqualOneRank(ranks: Int) async throws {
      try await compare("loss-double", ["11", "3", "readings"], ranks, 1e-10, ownScales: 2)
    }

    private func compare(
      _ probe: String, _ arguments: [String], _ ranks: Int, _ tolerance: Double, ownScales: Int = 0
    ) async throws {
      let run = try await MPIRun.probe(probe, arguments, ranks: ranks)
      #expect(run.status == 0, "\(run)")
      var compared = 0
      for line in run.lines {
        let words = line.split(separator: " ")
        let difference = try #require(Double(words[1]))
        #expect(difference <= tolerance, "\(arguments), \(ranks) ranks: \(line)")
        compared += 1
      }
      // The lines are the loss; 12 parameters of each of 2 + 2 blocks, 8 more of the vision tower, 5 of the text tower,
      // the scale; two heads, two fusions and their scales; the intra-modal term's.
      #expect(compared == 1 + 48 + 8 + 5 + 1 + 4 + 4 + 2 + ownScales)
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
