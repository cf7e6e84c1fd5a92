import Dist
import Foundation
import Model
import Tensor

/// Times a teacher's forward on made-up pictures and captions with its weights in each of the placements, and holds it
/// against the machine's matrix products.
struct TeacherBench {
  var preset = "ViT-B-16"
  var placements = TeacherPlacement.allCases
  /// Pairs a rank at once.
  var batch = 32
  /// Tokens of a caption, both ends counted.
  var captionTokens = 16
  /// Forwards to time in each placement; the median counts.
  var passes = 5
  var precision = Precision.fp32

  /// What the last line of output says.
  struct Report: Codable {
    var model: String
    var ranks: Int
    var batch: Int
    var captionTokens: Int
    var precision: Precision
    /// Of one rank, a second.
    var roofGflops: Double
    var kernel: String
    var placements: [Placed]

    enum CodingKeys: String, CodingKey {
      case model, ranks, batch, precision, kernel, placements
      case captionTokens = "caption_tokens"
      case roofGflops = "roof_gflops"
    }
  }

  /// One placement's figures: of all ranks together, by the slowest.
  struct Placed: Codable {
    var placement: String
    var pairsPerSecond: Double
    var picturesPerSecond: Double
    var captionsPerSecond: Double
    /// The forward's matrix operations of packed tokens, attention included, over the time of pictures and captions, as
    /// a share of the roof.
    var roofShare: Double
    /// Waiting for weights, as a share of the time.
    var waitShare: Double
    /// Seconds until the weights are in their places; drawing them is part of it.
    var loadSeconds: Double

    enum CodingKeys: String, CodingKey {
      case placement
      case pairsPerSecond = "pairs_per_s"
      case picturesPerSecond = "pictures_per_s"
      case captionsPerSecond = "captions_per_s"
      case roofShare = "roof_share"
      case waitShare = "wait_share"
      case loadSeconds = "load_s"
    }
  }

  func run(_ communicator: Communicator, say: (String) -> Void) throws -> Report {
    let config = try BenchInput.config(preset, captionTokens: captionTokens)
    let agreed = try ProductPrecision.agreed(precision, over: communicator)
    let precision = agreed.used
    for text in agreed.warnings.map({ "warning: \($0)" }) + [agreed.note].compactMap({ $0 }) { say(text) }
    say(
      "\(preset), \(batch) pairs a rank on \(communicator.size) ranks of \(Threads.count == 1 ? "1 thread" : "\(Threads.count) threads"), BLAS \(BLAS.kernel)"
    )
    let input = BenchInput(config, rows: communicator.slice(of: batch * communicator.size), tokens: captionTokens)
    var roof: MatrixRoof?
    var rates: [Double] = []
    var placed: [(Placed, features: [UInt32])] = []
    var operations = 0.0
    for placement in placements {
      let start = ContinuousClock.now
      let weights = try TeacherWeights(config, placement, precision: precision, over: communicator) { model, ranges in
        model.parameters.initialize(seed: 0, within: ranges)
      }
      let loadSeconds = (ContinuousClock.now - start) / .seconds(1)
      say(weights.text)
      operations = weights.model.forwardOperations(pictures: batch, captions: input.captions.map(\.count))
      if roof == nil { roof = try products(of: weights, input) }
      if let roof { rates.append(try roof.meanRate(over: communicator)) }
      placed.append(try time(weights, input, placement, loadSeconds, communicator))
    }
    if let roof { rates.append(try roof.meanRate(over: communicator)) }
    guard placed.allSatisfy({ $0.features == placed[0].features }) else {
      throw ModelError(description: "the placements give different features")
    }
    let rate = rates.reduce(0, +) / Double(rates.count)
    let all = Double(batch * communicator.size)
    let report = Report(
      model: preset, ranks: communicator.size, batch: batch, captionTokens: captionTokens, precision: precision,
      roofGflops: rate / 1e9,
      kernel: BLAS.kernel,
      placements: placed.map { found, _ in
        var found = found
        found.roofShare = operations / (all / found.pairsPerSecond) / rate
        return found
      })
    for found in report.placements {
      say(
        "\(found.placement): \(short(found.pairsPerSecond)) pairs/s (\(short(found.picturesPerSecond)) pictures/s, "
          + "\(short(found.captionsPerSecond)) captions/s), "
          + "\(short(100 * found.roofShare)) % of the roof of \(short(rate / 1e9)) GFLOP/s a rank, "
          + "waited \(short(100 * found.waitShare)) %")
    }
    return report
  }

  /// Records the shapes of one forward's products; the forward before it allocates.
  private func products(of weights: TeacherWeights, _ input: BenchInput) throws -> MatrixRoof {
    try forward(weights, input) { _, _ in }
    Profile.start()
    try forward(weights, input) { _, _ in }
    return MatrixRoof(Profile.stop().products)
  }

  private func forward(
    _ weights: TeacherWeights, _ input: BenchInput, _ done: (_ pictures: Double, _ captions: Double) -> Void
  ) throws {
    var (pictures, captions) = (0.0, 0.0)
    let body = {
      clock(&pictures) { _ = weights.model.visual.forward(input.images, keeping: false) }
      clock(&captions) { _ = weights.model.text.forward(TokenBatch(input.captions), keeping: false) }
    }
    if let spread = weights.spread { try spread.pass(input.captions, body) } else { body() }
    done(pictures, captions)
  }

  /// Times the forwards of one placement; the features' bits come with it.
  private func time(
    _ weights: TeacherWeights, _ input: BenchInput, _ placement: TeacherPlacement, _ loadSeconds: Double,
    _ communicator: Communicator
  ) throws -> (Placed, features: [UInt32]) {
    try forward(weights, input) { _, _ in }
    var times: [[Double]] = [[], [], []]
    let waitedBefore = weights.spread?.waited ?? 0
    for _ in 0..<passes {
      try communicator.barrier()
      let start = ContinuousClock.now
      try forward(weights, input) { pictures, captions in
        times[1].append(pictures)
        times[2].append(captions)
      }
      times[0].append((ContinuousClock.now - start) / .seconds(1))
    }
    let waited = (weights.spread?.waited ?? 0) - waitedBefore
    var medians = times.map { $0.sorted()[$0.count / 2] } + [waited / times[0].reduce(0, +), loadSeconds]
    try communicator.maximum(&medians)
    var features: [UInt32] = []
    func collect() {
      features = weights.model.visual.forward(input.images, keeping: false).array.map(\.bitPattern)
      features += weights.model.text.forward(TokenBatch(input.captions), keeping: false).array.map(\.bitPattern)
    }
    if let spread = weights.spread { try spread.pass(input.captions, collect) } else { collect() }
    let all = Double(batch * communicator.size)
    return (
      Placed(
        placement: placement.rawValue, pairsPerSecond: all / medians[0], picturesPerSecond: all / medians[1],
        captionsPerSecond: all / medians[2], roofShare: 0, waitShare: medians[3], loadSeconds: medians[4]),
      features
    )
  }

  private func short(_ value: Double) -> String { Figures.significant(value, 4) }
}
