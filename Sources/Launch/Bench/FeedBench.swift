import Dist
import Foundation
import Model
import Tensor

/// Trains a model on images that the loader of a run prepares, and on images in memory, and measures who waits.
struct FeedBench {
  var preset = "ViT-64-T-16"
  /// The pairs of each rank.
  var batch = 64
  /// The tokens of a caption, including both ends.
  var captionTokens = 16
  /// The steps of each kind, of which the median counts.
  var steps = 20
  /// The longer side of the synthetic JPEGs that are used without a dataset, in pixels.
  var side = 256
  /// The share of a step's time up to which waiting counts as none.
  static let waitLimit = 0.01

  /// The last line of output. Rates are those of one rank.
  struct Report: Codable {
    var model: String
    var batch: Int
    var ranks: Int
    var loaders: Int
    /// The images per second that the steps consume when all are in memory.
    var neededPerSecond: Double
    /// The images per second that the loader prepares with the rank's cores to itself.
    var givenPerSecond: Double
    /// The images per second that both together train on.
    var fedPerSecond: Double
    /// The time spent waiting for images, as a share of the steps' time.
    var waitShare: Double
    var isFed: Bool

    enum CodingKeys: String, CodingKey {
      case model, batch, ranks, loaders
      case neededPerSecond = "needed_per_s"
      case givenPerSecond = "given_per_s"
      case fedPerSecond = "fed_per_s"
      case waitShare = "wait_share"
      case isFed = "fed"
    }
  }

  private typealias Source = @Sendable (_ number: Int, _ bytes: inout [UInt8]) throws -> Void

  /// Every rank must call it.
  func run(
    _ dataset: String?, scaledDCT: Bool, _ communicator: Communicator, log: (String) -> Void
  ) throws -> Report {
    let config = try BenchInput.config(preset, captionTokens: captionTokens)
    let loaders = try ThreadPlan.agreed(over: communicator).loaders
    let read = try source(dataset)
    let (model, terms) = CLIP<Float>.student(config, ObjectivePreset.clip.options, teacherWidth: nil)
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 0)
    let step = try Step(model, terms, .init(), communicator: communicator)
    let input = BenchInput(config, batch: batch, tokens: captionTokens, over: communicator)
    var options = ImageOptions()
    options.size = config.vision.imageSize
    options.scaledDCT = scaledDCT
    func loader() -> Prefetcher<Int, ImageBlock> {
      self.loader(read, options, rows: input.rows, workers: loaders)
    }
    // The first step allocates.
    _ = try input.train(step)
    let alone = try times(communicator) { _ = try input.train(step) }
    var filling = loader()
    let filled = try times(communicator) { if let block = try filling.next() { filling.recycle(block) } }
    filling = loader()
    if let first = try filling.next() { filling.recycle(first) }
    let before = filling.waited
    let fed = try times(communicator) {
      guard let block = try filling.next() else { preconditionFailure("a batch was planned for each step") }
      defer { filling.recycle(block) }
      _ = try input.train(step, images: block.images(input.rows.count))
    }
    try step.waitForParameters()
    var slowest = [alone, filled, fed].map(\.median) + [(filling.waited - before) / fed.reduce(0, +)]
    try communicator.allReduce(&slowest, .maximum)
    let report = Report(
      model: preset, batch: batch, ranks: communicator.size, loaders: loaders,
      neededPerSecond: Double(batch) / slowest[0], givenPerSecond: Double(batch) / slowest[1],
      fedPerSecond: Double(batch) / slowest[2], waitShare: slowest[3], isFed: slowest[3] < Self.waitLimit)
    log(report.text(of: dataset ?? "JPEGs of \(side) pixels"))
    return report
  }

  /// Returns a function that reads an image by its number.
  private func source(_ path: String?) throws -> Source {
    if let path {
      let dataset = try Dataset.open(path)
      return { number, bytes in try dataset.readImage(number % dataset.count, into: &bytes) }
    }
    let files = try ImageSet.made([.jpeg], sides: [side], count: 16)[0].files
    return { number, bytes in bytes = files[number % files.count] }
  }

  private func loader(
    _ read: @escaping Source, _ options: ImageOptions, rows: Range<Int>, workers: Int
  ) -> Prefetcher<Int, ImageBlock> {
    Prefetcher(
      // The additional one is the first, which is not timed.
      steps: 0..<steps + 1,
      batches: (0..<DataConfig().prefetch + 1).map { _ in ImageBlock(height: rows.count, size: options.size) },
      workers: workers, plan: { step in rows.map { step * rows.count + $0 } },
      worker: {
        let preparation = try ImagePreparation(options, seed: 0)
        var bytes: [UInt8] = []
        return { block, row, number in
          try read(number, &bytes)
          try preparation.prepareTraining(bytes, sampleID: UInt64(number), view: 0, into: block.image(row))
        }
      })
  }

  /// Returns the seconds of each of `steps` runs, which all ranks begin together.
  private func times(_ communicator: Communicator, _ body: () throws -> Void) throws -> [Double] {
    try communicator.barrier()
    return try (0..<steps).map { _ in
      var seconds = 0.0
      try clock(&seconds) { try body() }
      return seconds
    }
  }
}

extension FeedBench.Report {
  fileprivate func text(of images: String) -> String {
    func whole(_ rate: Double) -> String { Figures.fixed(rate, 0) }
    return
      "\(model), \(batch) pairs on each of \(ranks) ranks: a rank's steps take \(whole(neededPerSecond)) images/s; "
      + "\(Figures.count(loaders, "loader")) a rank give\(loaders == 1 ? "s" : "") \(whole(givenPerSecond)) of "
      + "\(images) with the cores to \(loaders == 1 ? "itself" : "themselves"); together \(whole(fedPerSecond)), "
      + "waiting \(Figures.fixed(100 * waitShare, 1)) % of the time"
  }
}
