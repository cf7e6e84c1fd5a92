import Dist
import Foundation
import Model
import Tensor

/// Times the preparation of images by format and size, and tests whether a loader keeps up with the steps of a model.
struct DataBench {
  var formats = ImageFormat.allCases
  /// The longer sides of the synthetic images in pixels.
  var sides = [64, 224, 512, 1024]
  /// A dataset whose images replace the synthetic ones.
  var dataset: String?
  /// The number of synthetic images of each kind, or of all images from a dataset.
  var count = 8
  /// The side of the prepared images in pixels.
  var crop = 224
  /// If true, large JPEGs are decoded for random crops at a fraction of their size.
  var scaledDCT = false
  /// The seconds to measure for each figure.
  var seconds = 0.5
  var feed = FeedBench()

  /// The last line of output.
  struct Report: Codable {
    var ranks: Int
    var crop: Int
    var scaledDCT: Bool
    var dataset: String?
    /// The rates of one core, while every rank's core does the same.
    var images: [Rate]
    var feed: FeedBench.Report

    enum CodingKeys: String, CodingKey {
      case ranks, crop, dataset, images, feed
      case scaledDCT = "scaled_dct"
    }
  }

  struct Rate: Codable {
    var format: ImageFormat
    /// The longer side in pixels; for a dataset, the smallest power of two that it does not exceed.
    var side: Int
    var images: Int
    /// The mean size of a file in KiB.
    var kibibytes: Double
    var bitsPerPixel: Double
    /// The rate of random crops that are resized, as in training.
    var trainingPerSecond: Double
    /// The rate with the shorter side resized and the middle cut out.
    var evaluationPerSecond: Double

    enum CodingKeys: String, CodingKey {
      case format, side, images
      case kibibytes = "kib"
      case bitsPerPixel = "bits_per_pixel"
      case trainingPerSecond = "training_per_s"
      case evaluationPerSecond = "evaluation_per_s"
    }
  }

  func run(_ communicator: Communicator, log: (String) -> Void) throws -> Report {
    let sets: [ImageSet]
    if let dataset {
      sets = try ImageSet.of(Dataset.open(dataset), count: count)
    } else {
      sets = try ImageSet.made(formats, sides: sides, count: count)
    }
    log(
      "images to \(crop) × \(crop), by one core while \(communicator.size) do the same\n"
        + "format   side  images     KiB  bits/pixel  training/s  evaluation/s")
    var rates: [Rate] = []
    for set in sets {
      let rate = try measure(set, communicator)
      log(rate.text)
      rates.append(rate)
    }
    let feed = try feed.run(dataset, scaledDCT: scaledDCT, communicator, log: log)
    return Report(
      ranks: communicator.size, crop: crop, scaledDCT: scaledDCT, dataset: dataset, images: rates, feed: feed)
  }

  private func measure(_ set: ImageSet, _ communicator: Communicator) throws -> Rate {
    var options = ImageOptions()
    options.size = crop
    options.scaledDCT = scaledDCT
    let preparation = try ImagePreparation(options, seed: 0)
    let target = Tensor<Float>(Shape(3, crop, crop))
    let training = try rate(set.files, communicator) {
      try preparation.prepareTraining($0, sampleID: UInt64($1), view: $1, into: target)
    }
    let evaluation = try rate(set.files, communicator) { bytes, _ in
      try preparation.prepareEvaluation(bytes, into: target)
    }
    return Rate(
      format: set.format, side: set.side, images: set.files.count, kibibytes: set.kibibytes,
      bitsPerPixel: set.kibibytes * 1024 * 8 * Double(set.files.count) / Double(set.pixels),
      trainingPerSecond: training, evaluationPerSecond: evaluation)
  }

  /// Returns the mean of the ranks' rates in images per second. Files are prepared in turn until the time is over and
  /// all had their turn, after a round that warms up.
  private func rate(
    _ files: [[UInt8]], _ communicator: Communicator, _ prepare: (_ bytes: [UInt8], _ number: Int) throws -> Void
  ) throws -> Double {
    for (number, file) in files.enumerated() { try prepare(file, number) }
    try communicator.barrier()
    var done = 0
    let mean = try meanSeconds(during: seconds, runs: files.count) {
      try prepare(files[done % files.count], done)
      done += 1
    }
    return try communicator.mean(1 / mean)
  }
}

extension DataBench.Rate {
  fileprivate var text: String {
    Figures.row(
      (format.title.padding(toLength: 6, withPad: " ", startingAt: 0), 6), ("\(side)", 7), ("\(images)", 10),
      (Figures.fixed(kibibytes, 1), 8), (Figures.fixed(bitsPerPixel, 2), 12),
      (Figures.fixed(trainingPerSecond, 0), 12), (Figures.fixed(evaluationPerSecond, 0), 14))
  }
}
