import Dist
import Foundation
import Model
import Tensor

/// Times a teacher's forward on synthetic images and captions with its weights in each of the placements, and compares
/// it with the machine's matrix products.
struct TeacherBench {
  var preset = "ViT-B-16"
  var placements = TeacherPlacement.allCases
  /// The pairs of each rank in a forward.
  var batch = 32
  /// The tokens of a caption, including both ends.
  var captionTokens = 16
  /// The forwards to time in each placement, of which the median counts.
  var passes = 5
  var precision = ComputePrecision.fp32

  /// The last line of output.
  struct Report: Codable {
    var model: String
    var ranks: Int
    var batch: Int
    var captionTokens: Int
    var precision: ComputePrecision
    /// The roof of one rank in GFLOP/s.
    var roofGflops: Double
    var kernel: String
    var placements: [Placed]

    enum CodingKeys: String, CodingKey {
      case model, ranks, batch, precision, kernel, placements
      case captionTokens = "caption_tokens"
      case roofGflops = "roof_gflops"
    }
  }

  /// One placement's figures, for all ranks together and by the slowest of them.
  struct Placed: Codable {
    var placement: String
    var pairsPerSecond: Double
    var imagesPerSecond: Double
    var captionsPerSecond: Double
    /// The rate of the forward's matrix operations (packed tokens, attention included) over the time of images and
    /// captions, as a share of the roof.
    var roofShare: Double
    /// The time spent waiting for weights, as a share of the whole.
    var waitShare: Double
    /// The seconds until the weights are in place, including their initialization.
    var loadSeconds: Double

    enum CodingKeys: String, CodingKey {
      case placement
      case pairsPerSecond = "pairs_per_s"
      case imagesPerSecond = "images_per_s"
      case captionsPerSecond = "captions_per_s"
      case roofShare = "roof_share"
      case waitShare = "wait_share"
      case loadSeconds = "load_s"
    }
  }

  func run(_ communicator: Communicator, log: (String) -> Void) throws -> Report {
    let config = try BenchInput.config(preset, captionTokens: captionTokens)
    let agreed = try ProductPrecision.agreed(precision, over: communicator)
    let precision = agreed.used
    for text in agreed.warnings.map({ "warning: \($0)" }) + [agreed.note].compactMap({ $0 }) { log(text) }
    log("\(preset), \(BenchInput.setting(batch, communicator))")
    let input = BenchInput(config, batch: batch, tokens: captionTokens, over: communicator)
    var roof: MatrixRoof?
    var rates: [Double] = []
    var placed: [(Placed, features: [UInt32])] = []
    var operations = 0.0
    for placement in placements {
      var loadSeconds = 0.0
      let weights = try clock(&loadSeconds) {
        try TeacherWeights(config, placement, precision: precision, over: communicator) { model, ranges in
          model.parameters.initialize(seed: 0, within: ranges)
        }
      }
      log(weights.text)
      operations = weights.model.forwardOperations(images: batch, captions: input.captions.map(\.count))
      if roof == nil { roof = try products(of: weights, input) }
      if let roof { rates.append(try roof.meanRate(over: communicator)) }
      placed.append(try time(weights, input, placement, loadSeconds, communicator))
    }
    if let roof { rates.append(try roof.meanRate(over: communicator)) }
    guard placed.allSatisfy({ $0.features == placed[0].features }) else {
      throw UserError(nil, "the placements give different features")
    }
    let rate = rates.reduce(0, +) / Double(rates.count)
    let all = Double(input.count)
    let report = Report(
      model: preset, ranks: communicator.size, batch: batch, captionTokens: captionTokens, precision: precision,
      roofGflops: rate / 1e9, kernel: BLAS.kernel,
      placements: placed.map { found, _ in
        var found = found
        found.roofShare = operations / (all / found.pairsPerSecond) / rate
        return found
      })
    for found in report.placements {
      log(
        "\(found.placement): \(short(found.pairsPerSecond)) pairs/s (\(short(found.imagesPerSecond)) images/s, "
          + "\(short(found.captionsPerSecond)) captions/s), "
          + "\(short(100 * found.roofShare)) % of the roof of \(short(rate / 1e9)) GFLOP/s a rank, "
          + "waited \(short(100 * found.waitShare)) %")
    }
    return report
  }

  /// Records the shapes of one forward's products, after a forward that allocates.
  private func products(of weights: TeacherWeights, _ input: BenchInput) throws -> MatrixRoof {
    _ = try forward(weights, input)
    Profile.start()
    _ = try forward(weights, input)
    return MatrixRoof(Profile.stop().products)
  }

  /// Runs one forward, and returns its features and seconds.
  private func forward(
    _ weights: TeacherWeights, _ input: BenchInput
  ) throws -> (features: [Tensor<Float>], images: Double, captions: Double) {
    var (images, captions) = (0.0, 0.0)
    var features: [Tensor<Float>] = []
    func both() {
      features = [
        clock(&images) { weights.model.visual.forward(input.images, mode: .evaluation) },
        clock(&captions) { weights.model.text.forward(TokenBatch(input.captions), mode: .evaluation) },
      ]
    }
    if let sharded = weights.sharded { try sharded.pass(input.captions, both) } else { both() }
    return (features, images, captions)
  }

  /// Times the forwards of one placement, and returns the bits of the features with the figures.
  private func time(
    _ weights: TeacherWeights, _ input: BenchInput, _ placement: TeacherPlacement, _ loadSeconds: Double,
    _ communicator: Communicator
  ) throws -> (Placed, features: [UInt32]) {
    _ = try forward(weights, input)
    var times: [[Double]] = [[], [], []]
    var features: [Tensor<Float>] = []
    let waitedBefore = weights.sharded?.waited ?? 0
    for _ in 0..<passes {
      try communicator.barrier()
      var seconds = 0.0
      let found = try clock(&seconds) { try forward(weights, input) }
      for (index, time) in [seconds, found.images, found.captions].enumerated() { times[index].append(time) }
      features = found.features
    }
    let waited = (weights.sharded?.waited ?? 0) - waitedBefore
    var medians = times.map(\.median) + [waited / times[0].reduce(0, +), loadSeconds]
    try communicator.allReduce(&medians, .maximum)
    let all = Double(input.count)
    return (
      Placed(
        placement: placement.rawValue, pairsPerSecond: all / medians[0], imagesPerSecond: all / medians[1],
        captionsPerSecond: all / medians[2], roofShare: 0, waitShare: medians[3], loadSeconds: medians[4]),
      features.flatMap { $0.array.map(\.bitPattern) }
    )
  }

  private func short(_ value: Double) -> String { Figures.significant(value, 4) }
}
