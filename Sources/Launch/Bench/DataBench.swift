import Dist
import Foundation
import Model
import Tensor

/// Times the preparation of pictures by format and size, and looks whether a loader keeps up with the steps of a model.
struct DataBench {
  var formats = ImageFormat.allCases
  /// Longer sides of the pictures that are made.
  var sides = [64, 224, 512, 1024]
  /// Real pictures in their place.
  var corpus: String?
  /// Pictures of each kind that are made, or of a corpus in all.
  var count = 8
  /// Side of what is prepared.
  var crop = 224
  /// Decodes large JPEGs for random crops at a part of their size.
  var scaledDCT = false
  /// Seconds for each figure.
  var seconds = 0.5
  var feed = FeedBench()

  /// What the last line of output says.
  struct Report: Codable {
    var ranks: Int
    var crop: Int
    var scaledDCT: Bool
    var corpus: String?
    /// Of one core, while every rank's core does the same.
    var pictures: [Rate]
    var feed: FeedBench.Report

    enum CodingKeys: String, CodingKey {
      case ranks, crop, corpus, pictures, feed
      case scaledDCT = "scaled_dct"
    }
  }

  struct Rate: Codable {
    var format: ImageFormat
    /// The longer side in pixels, or of a corpus the power of two that it does not exceed.
    var side: Int
    var pictures: Int
    /// Of a file, on average.
    var kibibytes: Double
    var bitsPerPixel: Double
    /// A random crop, resized, as training sees it.
    var trainingPerSecond: Double
    /// The shorter side resized, and the middle cut out.
    var evaluationPerSecond: Double

    enum CodingKeys: String, CodingKey {
      case format, side, pictures
      case kibibytes = "kib"
      case bitsPerPixel = "bits_per_pixel"
      case trainingPerSecond = "training_per_s"
      case evaluationPerSecond = "evaluation_per_s"
    }
  }

  func run(_ communicator: Communicator, say: (String) -> Void) throws -> Report {
    let sets: [PictureSet]
    if let corpus {
      sets = try PictureSet.of(Corpus.open(corpus), count: count)
    } else {
      sets = try PictureSet.made(formats, sides: sides, count: count)
    }
    say(
      "pictures to \(crop) × \(crop), by one core while \(communicator.size) do the same\n"
        + "format   side  pictures     KiB  bits/pixel  training/s  evaluation/s")
    var rates: [Rate] = []
    for set in sets {
      let rate = try measure(set, communicator)
      say(rate.text)
      rates.append(rate)
    }
    let feed = try feed.run(corpus, scaledDCT: scaledDCT, communicator, say: say)
    return Report(
      ranks: communicator.size, crop: crop, scaledDCT: scaledDCT, corpus: corpus, pictures: rates, feed: feed)
  }

  private func measure(_ set: PictureSet, _ communicator: Communicator) throws -> Rate {
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
      format: set.format, side: set.side, pictures: set.files.count, kibibytes: set.kibibytes,
      bitsPerPixel: set.kibibytes * 1024 * 8 * Double(set.files.count) / Double(set.pixels),
      trainingPerSecond: training, evaluationPerSecond: evaluation)
  }

  /// Pictures a second, the mean of the ranks: all files in turn until the time is over, after one round that warms up.
  private func rate(
    _ files: [[UInt8]], _ communicator: Communicator, _ prepare: (_ bytes: [UInt8], _ number: Int) throws -> Void
  ) throws -> Double {
    for (number, file) in files.enumerated() { try prepare(file, number) }
    try communicator.barrier()
    var done = 0
    var elapsed = 0.0
    let start = ContinuousClock.now
    repeat {
      try prepare(files[done % files.count], done)
      done += 1
      elapsed = (ContinuousClock.now - start) / .seconds(1)
    } while elapsed < seconds || done < files.count
    var rate = [Double(done) / elapsed]
    try communicator.sum(&rate)
    return rate[0] / Double(communicator.size)
  }
}

extension DataBench.Rate {
  fileprivate var text: String {
    func column(_ text: String, _ width: Int) -> String {
      String(repeating: " ", count: max(width - text.count, 0)) + text
    }
    return format.title.padding(toLength: 6, withPad: " ", startingAt: 0) + column("\(side)", 7)
      + column("\(pictures)", 10) + column(Figures.fixed(kibibytes, 1), 8) + column(Figures.fixed(bitsPerPixel, 2), 12)
      + column(Figures.fixed(trainingPerSecond, 0), 12) + column(Figures.fixed(evaluationPerSecond, 0), 14)
  }
}
