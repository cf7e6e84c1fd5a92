import Dist
import Foundation
import Model
import Tensor

/// Trains a model on pictures that the loader of a run prepares, and on pictures that are there, and looks who waits.
struct FeedBench {
  var preset = "ViT-64-T-16"
  /// Pairs a rank.
  var batch = 64
  /// Tokens of a caption, both ends counted.
  var captionTokens = 16
  /// Steps of each kind; the median counts.
  var steps = 20
  /// Longer side of the JPEGs that are made where there is no corpus.
  var side = 256
  /// Of the time of a step: waiting up to this share counts as none.
  static let waitLimit = 0.01

  /// What the last line of output says; rates are of one rank.
  struct Report: Codable {
    var model: String
    var batch: Int
    var ranks: Int
    var loaders: Int
    /// Pictures a second that the steps take when all are there.
    var neededPerSecond: Double
    /// Pictures a second that the loader prepares with the rank's cores to itself.
    var givenPerSecond: Double
    /// Pictures a second that both together train on.
    var fedPerSecond: Double
    /// Waiting for pictures, as a share of the time of steps.
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

  /// The pictures of one step; each row is written by one thread.
  private final class Batch: Sendable {
    let images: Tensor<Float>
    init(_ shape: Shape) { images = Tensor(shape) }
  }

  /// Every rank must call it.
  func run(
    _ corpus: String?, scaledDCT: Bool, _ communicator: Communicator, say: (String) -> Void
  ) throws -> Report {
    let config = try BenchInput.config(preset, captionTokens: captionTokens)
    let loaders = try ThreadPlan.agreed(over: communicator).loaders
    let read = try source(corpus)
    let (model, terms) = CLIP<Float>.student(config, ObjectivePreset.clip.options, teacherWidth: nil)
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 0)
    let step = try Step(
      model, terms, AdamW<Float>.Options(), clipNorm: nil, micro: nil, communicator: communicator)
    let count = batch * communicator.size
    let rows = communicator.slice(of: count)
    let input = BenchInput(config, rows: rows, tokens: captionTokens)
    func train(on images: Tensor<Float>) throws {
      _ = try step.run(images: images, captions: input.captions, rows: rows, count: count, rate: 1e-4)
    }

    func loader() -> Prefetcher<Int, Batch> {
      self.loader(read, config.vision.imageSize, scaledDCT: scaledDCT, rows, workers: loaders)
    }
    // The first step allocates.
    try train(on: input.images)
    let alone = try times(communicator) { try train(on: input.images) }
    var filling = loader()
    let filled = try times(communicator) { if let batch = try filling.next() { filling.recycle(batch) } }
    filling = loader()
    if let first = try filling.next() { filling.recycle(first) }
    let before = filling.waited
    let fed = try times(communicator) {
      guard let batch = try filling.next() else { preconditionFailure("a batch was planned for each step") }
      defer { filling.recycle(batch) }
      try train(on: batch.images)
    }
    try step.settle()
    var slowest = [alone, filled, fed].map(\.median) + [(filling.waited - before) / fed.total]
    try communicator.maximum(&slowest)
    let report = Report(
      model: preset, batch: batch, ranks: communicator.size, loaders: loaders,
      neededPerSecond: Double(batch) / slowest[0], givenPerSecond: Double(batch) / slowest[1],
      fedPerSecond: Double(batch) / slowest[2], waitShare: slowest[3], isFed: slowest[3] < Self.waitLimit)
    say(report.text(of: corpus ?? "JPEGs of \(side) pixels"))
    return report
  }

  /// Reads the picture of a row of a step.
  private func source(_ path: String?) throws -> @Sendable (_ number: Int, _ bytes: inout [UInt8]) throws -> Void {
    if let path {
      let corpus = try Corpus.open(path)
      return { number, bytes in try corpus.readImage(number % corpus.count, into: &bytes) }
    }
    let files = try PictureSet.made([.jpeg], sides: [side], count: 16)[0].files
    return { number, bytes in bytes = files[number % files.count] }
  }

  private func loader(
    _ read: @escaping @Sendable (Int, inout [UInt8]) throws -> Void, _ size: Int, scaledDCT: Bool, _ rows: Range<Int>,
    workers: Int
  ) -> Prefetcher<Int, Batch> {
    var options = ImageOptions()
    options.size = size
    options.scaledDCT = scaledDCT
    return Prefetcher(
      // One more for the first, which is waited for.
      steps: 0..<steps + 1,
      batches: (0..<DataConfig().prefetch + 1).map { _ in Batch(Shape(rows.count, 3, size, size)) },
      workers: workers, plan: { step in rows.map { step * rows.count + $0 } },
      worker: { [options] in
        let preparation = try ImagePreparation(options, seed: 0)
        var bytes: [UInt8] = []
        return { batch, row, number in
          try read(number, &bytes)
          let length = 3 * size * size
          try preparation.prepareTraining(
            bytes, sampleID: UInt64(number), view: 0,
            into: batch.images.slice(row * length..<(row + 1) * length).reshaped(Shape(3, size, size)))
        }
      })
  }

  private func times(_ communicator: Communicator, _ body: () throws -> Void) throws -> (median: Double, total: Double)
  {
    try communicator.barrier()
    var times: [Double] = []
    for _ in 0..<steps {
      let start = ContinuousClock.now
      try body()
      times.append((ContinuousClock.now - start) / .seconds(1))
    }
    return (times.sorted()[times.count / 2], times.reduce(0, +))
  }
}

extension FeedBench.Report {
  fileprivate func text(of pictures: String) -> String {
    func whole(_ rate: Double) -> String { Figures.fixed(rate, 0) }
    return
      "\(model), \(batch) pairs on each of \(ranks) ranks: a rank's steps take \(whole(neededPerSecond)) pictures/s; "
      + "\(loaders) loader\(loaders == 1 ? "" : "s") a rank give\(loaders == 1 ? "s" : "") \(whole(givenPerSecond)) of "
      + "\(pictures) with the cores to \(loaders == 1 ? "itself" : "themselves"); together \(whole(fedPerSecond)), "
      + "waiting \(Figures.fixed(100 * waitShare, 1)) % of the time"
  }
}
