import Dist
import Foundation
import Model
import Tensor

/// Times a teacher's forward with its weights in each placement, and compares it with the machine's matrix products.
struct TeacherBench {
  /// The teacher, and the pairs of each rank in a forward.
  let work: BenchWork
  let placements: [TeacherPlacement]
  let passes: Int
  let precision: ComputePrecision

  struct Report: Encodable {
    var model: String
    var ranks, batch, captionTokens: Int
    var precision: ComputePrecision
    /// The roof of one rank in GFLOP/s, and the rate of the processor's own multiply-adds on all of its threads and on
    /// one.
    var roofGflops: Double
    var processorGflops, coreGflops: Double?
    var kernel: String
    var placements: [Placed]
  }

  /// One placement's figures, for all ranks together and by the slowest of them.
  struct Placed: Encodable {
    var placement: String
    var pairsPerS, imagesPerS, captionsPerS: Double
    /// The rate of the forward's matrix operations (packed tokens, attention included), as a share of the roof, and of
    /// the processor's own rate.
    var roofShare = 0.0
    var processorShare: Double?
    /// The time spent waiting for weights, as a share of the whole.
    var waitShare: Double
    /// The seconds until the weights are in place, including their initialization.
    var loadS: Double
  }

  func run(_ communicator: Communicator, log: (String) -> Void) throws -> Report {
    let config = try work.config()
    let agreed = try ProductPrecision.agreed(precision, over: communicator)
    let precision = agreed.used
    for text in agreed.warnings.map({ "warning: \($0)" }) + [agreed.note].compactMap({ $0 }) { log(text) }
    log("\(work.preset), \(work.setting(communicator))")
    try work.requireMemory(config, .forward, precision: precision, over: communicator)
    let input = BenchInput(config, work, over: communicator)
    var roof: MatrixRoof?
    var measured: [RoofRates] = []
    var placed: [Placed] = []
    var features: [[UInt32]] = []
    var operations = 0.0
    for placement in placements {
      var loadSeconds = 0.0
      let weights = try clock(&loadSeconds) {
        try TeacherWeights(config, placement, precision: precision, over: communicator) { model, ranges in
          model.parameters.initialize(seed: 0, within: ranges)
        }
      }
      log(weights.text)
      operations = weights.model.forwardOperations(images: work.batch, captions: input.captions.map(\.count))
      let shapes = try roof ?? products(of: weights, input)
      roof = shapes
      measured.append(try shapes.rates(over: communicator))
      let timed = try time(weights, input, placement, loadSeconds, communicator)
      placed.append(timed.figures)
      features.append(timed.features)
    }
    if let roof { measured.append(try roof.rates(over: communicator)) }
    guard features.allSatisfy({ $0 == features[0] }) else {
      throw UserError(nil, "the placements give different features")
    }
    let roofs = RoofRates.mean(of: measured)
    log("roof: \(roofs.text)")
    for index in placed.indices {
      let rate = operations / (Double(input.count) / placed[index].pairsPerS)
      placed[index].roofShare = rate / roofs.library
      placed[index].processorShare = roofs.processor.map { rate / $0 }
      let found = placed[index]
      log(
        "\(found.placement): \(short(found.pairsPerS)) pairs/s (\(short(found.imagesPerS)) images/s, "
          + "\(short(found.captionsPerS)) captions/s), \(short(100 * found.roofShare)) % of the roof, waited "
          + "\(short(100 * found.waitShare)) %")
    }
    return Report(
      model: work.preset, ranks: communicator.size, batch: work.batch, captionTokens: work.captionTokens,
      precision: precision, roofGflops: roofs.library / 1e9, processorGflops: roofs.processor.map { $0 / 1e9 },
      coreGflops: roofs.core.map { $0 / 1e9 }, kernel: BLAS.kernel, placements: placed)
  }

  /// Records the shapes of one forward's products, after a forward that allocates.
  private func products(of weights: TeacherWeights, _ input: BenchInput) throws -> MatrixRoof {
    _ = try forward(weights, input)
    Profile.start()
    _ = try forward(weights, input)
    return MatrixRoof(Profile.stop().products)
  }

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
  ) throws -> (figures: Placed, features: [UInt32]) {
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
    var slowest = times.map(\.median) + [waited / times[0].reduce(0, +), loadSeconds]
    try communicator.allReduce(&slowest, .maximum)
    let rates = slowest.map { Double(input.count) / $0 }
    let figures = Placed(
      placement: placement.rawValue, pairsPerS: rates[0], imagesPerS: rates[1], captionsPerS: rates[2],
      waitShare: slowest[3], loadS: slowest[4])
    return (figures, features.flatMap { $0.array.map(\.bitPattern) })
  }

  private func short(_ value: Double) -> String { Figures.significant(value, 4) }
}
