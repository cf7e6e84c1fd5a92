import Dist
import Foundation
import Model
import Tensor

/// Times the preparation of images by format and size, and tests whether a loader keeps up with the steps of a model.
/// The properties are the options of the command, as in the other benchmarks.
struct DataBench {
  let formats: [ImageFormat]
  let sides: [Int]
  let dataset: String?
  let count: Int
  let crop: Int
  let scaledDCT: Bool
  let seconds: Double
  let feed: FeedBench

  struct Report: Codable {
    var ranks, crop: Int
    var scaledDct: Bool
    var dataset: String?
    /// The rates of one core, while every rank's core does the same.
    var images: [Rate]
    var feed: FeedBench.Report
  }

  struct Rate: Codable {
    var format: ImageFormat
    /// The longer side in pixels; for a dataset, the smallest power of two that it does not exceed.
    var side: Int
    var images: Int
    var kib, bitsPerPixel: Double
    /// The rates with random crops that are resized, and with the shorter side resized and the middle cut out.
    var trainingPerS, evaluationPerS: Double

    fileprivate var text: String {
      Figures.row(
        (format.title.padding(toLength: 6, withPad: " ", startingAt: 0), 6), ("\(side)", 7), ("\(images)", 10),
        (Figures.fixed(kib, 1), 8), (Figures.fixed(bitsPerPixel, 2), 12), (Figures.fixed(trainingPerS, 0), 12),
        (Figures.fixed(evaluationPerS, 0), 14))
    }
  }

  func run(_ communicator: Communicator, log: (String) -> Void) throws -> Report {
    let sets =
      try dataset.map { try ImageSet.of(Dataset.open($0), count: count) }
      ?? ImageSet.made(formats, sides: sides, count: count)
    log(
      "images to \(crop) × \(crop), by one core while \(communicator.size) do the same\n"
        + "format   side  images     KiB  bits/pixel  training/s  evaluation/s")
    let rates = try sets.map { set in
      let rate = try measure(set, communicator)
      log(rate.text)
      return rate
    }
    return Report(
      ranks: communicator.size, crop: crop, scaledDct: scaledDCT, dataset: dataset, images: rates,
      feed: try feed.run(dataset, scaledDCT: scaledDCT, communicator, log: log))
  }

  private func measure(_ set: ImageSet, _ communicator: Communicator) throws -> Rate {
    var options = ImageOptions()
    (options.size, options.scaledDCT) = (crop, scaledDCT)
    let preparation = try ImagePreparation(options, seed: 0)
    let target = Tensor<Float>(Shape(3, crop, crop))
    let training = try rate(set.files, communicator) {
      try preparation.prepareTraining($0, sampleID: UInt64($1), view: $1, into: target)
    }
    let evaluation = try rate(set.files, communicator) { bytes, _ in
      try preparation.prepareEvaluation(bytes, into: target)
    }
    return Rate(
      format: set.format, side: set.side, images: set.files.count, kib: set.kibibytes,
      bitsPerPixel: set.kibibytes * 1024 * 8 * Double(set.files.count) / Double(set.pixels),
      trainingPerS: training, evaluationPerS: evaluation)
  }

  /// Returns the mean of the ranks' images per second. After a round that warms up, each file has at least one turn.
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

/// Trains a model on images that the loader of a run prepares, and on images in memory, and measures who waits.
struct FeedBench {
  let work: BenchWork
  let steps, side: Int
  /// The share of a step's time up to which waiting counts as none.
  static let waitLimit = 0.01

  /// The figures for DataBench's report. Rates are those of one rank in images per second.
  struct Report: Codable {
    var model: String
    var batch, ranks, loaders: Int
    /// The images that the steps consume when all are in memory, that the loader prepares with the rank's cores to
    /// itself, and that both together train on.
    var neededPerS, givenPerS, fedPerS: Double
    /// The time spent waiting for images, as a share of the steps' time.
    var waitShare: Double
    var fed: Bool

    fileprivate func text(of images: String) -> String {
      func whole(_ rate: Double) -> String { Figures.fixed(rate, 0) }
      return
        "\(model), \(batch) pairs on each of \(ranks) ranks: a rank's steps take \(whole(neededPerS)) images/s; "
        + "\(Figures.count(loaders, "loader")) a rank give\(loaders == 1 ? "s" : "") \(whole(givenPerS)) of "
        + "\(images) with the cores to \(loaders == 1 ? "itself" : "themselves"); together \(whole(fedPerS)), "
        + "waiting \(Figures.fixed(100 * waitShare, 1)) % of the time"
    }
  }

  private typealias Source = @Sendable (_ number: Int, _ bytes: inout [UInt8]) throws -> Void

  func run(_ dataset: String?, scaledDCT: Bool, _ communicator: Communicator, log: (String) -> Void) throws -> Report {
    let config = try work.config()
    try work.requireMemory(config, over: communicator)
    let loaders = try ThreadPlan.agreed(over: communicator).loaders
    let read = try source(dataset)
    let (model, terms) = CLIP<Float>.student(config, ObjectivePreset.clip.options, teacherWidth: nil)
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 0)
    let step = try Step(model, terms, .init(), communicator: communicator)
    let input = BenchInput(config, work, over: communicator)
    var options = ImageOptions()
    (options.size, options.scaledDCT) = (config.vision.imageSize, scaledDCT)
    // The first step allocates.
    _ = try input.train(step)
    let alone = try times(communicator) { _ = try input.train(step) }
    var filling = loader(read, options, rows: input.rows, workers: loaders)
    let filled = try times(communicator) { if let block = try filling.next() { filling.recycle(block) } }
    filling = loader(read, options, rows: input.rows, workers: loaders)
    if let first = try filling.next() { filling.recycle(first) }
    let before = filling.waited
    let fed = try times(communicator) {
      guard let block = try filling.next() else { preconditionFailure("a batch was planned for each step") }
      defer { filling.recycle(block) }
      _ = try input.train(step, images: block.images.samples(0..<input.rows.count))
    }
    try step.waitForParameters()
    var slowest = [alone, filled, fed].map(\.median) + [(filling.waited - before) / fed.reduce(0, +)]
    try communicator.allReduce(&slowest, .maximum)
    let rates = slowest.map { Double(work.batch) / $0 }
    let report = Report(
      model: work.preset, batch: work.batch, ranks: communicator.size, loaders: loaders, neededPerS: rates[0],
      givenPerS: rates[1], fedPerS: rates[2], waitShare: slowest[3], fed: slowest[3] < Self.waitLimit)
    log(report.text(of: dataset ?? "JPEGs of \(side) pixels"))
    return report
  }

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
  ) -> Prefetcher<Int, ModelInput> {
    Prefetcher(
      // The additional one is the first, which is not timed.
      steps: 0..<steps + 1,
      batches: (0..<DataConfig().prefetch + 1).map { _ in ModelInput(rows: rows.count, size: options.size) },
      workers: workers, append: { step, items in items += rows.map { step * rows.count + $0 } },
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
    return try (0..<steps).map { _ in try ContinuousClock().measure(body) / .seconds(1) }
  }
}

/// Images of one format and about one size, as files in memory.
struct ImageSet {
  let format: ImageFormat
  /// The longer side of all images in pixels, or a length that no side exceeds.
  let side: Int
  var files: [[UInt8]] = []
  var pixels = 0
  var kibibytes: Double { Double(files.reduce(0) { $0 + $1.count }) / 1024 / Double(files.count) }

  /// Makes synthetic images, a third wider than high.
  static func made(_ formats: [ImageFormat], sides: [Int], count: Int) throws -> [ImageSet] {
    try sides.flatMap { side in
      let images = (0..<count).map { MadeImage.make(width: side, height: max(side * 3 / 4, 1), number: $0) }
      return try formats.map { format in
        ImageSet(
          format: format, side: side, files: try images.map { try $0.encoded(as: format) },
          pixels: images.reduce(0) { $0 + $1.width * $1.height })
      }
    }
  }

  /// Takes at most `count` images, spread evenly over a dataset, and groups them by format and size.
  static func of(_ dataset: Dataset, count: Int) throws -> [ImageSet] {
    var sets: [ImageSet] = []
    let chosen = min(count, dataset.count)
    for number in 0..<chosen {
      let sample = number * dataset.count / chosen
      let bytes = try dataset.image(sample)
      let info: ImageInfo
      do { info = try ImageDecoder.probe(bytes) } catch { throw dataset.cannotPrepare(sample, error) }
      var side = 64
      while side < max(info.width, info.height) { side *= 2 }
      let known = sets.firstIndex { $0.format == info.format && $0.side == side }
      if known == nil { sets.append(ImageSet(format: info.format, side: side)) }
      let place = known ?? sets.count - 1
      sets[place].files.append(bytes)
      sets[place].pixels += info.width * info.height
    }
    return sets.sorted { ($0.side, $0.format.rawValue) < ($1.side, $1.format.rawValue) }
  }
}

/// Synthetic images, each a function of a number: soft noise at every scale, weaker at finer ones. As JPEG of quality
/// 85 they take 1 to 2 bits per pixel, as photographs do.
enum MadeImage {
  static func make(width: Int, height: Int, number: Int) -> RGBImage {
    var values = [Float](repeating: 0, count: width * height * 3)
    var random = KeyedRandom(seed: 0, purpose: "made picture", UInt64(number), second: UInt64(width << 32 | height))
    var cell = max(width, height)
    var strength: Float = 70
    while cell >= 2 {
      add(&values, width: width, height: height, cell: cell, strength: strength, &random)
      cell /= 2
      strength *= 0.72
    }
    return RGBImage(width: width, height: height, rgb: values.map { UInt8(min(max($0 + 128, 0), 255)) })
  }

  /// Adds an interpolated grid of random values: brightness that all colours share, and a third as much of each one's.
  private static func add(
    _ values: inout [Float], width: Int, height: Int, cell: Int, strength: Float, _ random: inout KeyedRandom
  ) {
    let (columns, rows) = (width / cell + 2, height / cell + 2)
    var grid = [Float](repeating: 0, count: columns * rows * 3)
    for point in 0..<columns * rows {
      let light = Float(random.uniform(from: -1, to: 1))
      for color in 0..<3 { grid[point * 3 + color] = strength * (light + Float(random.uniform(from: -1, to: 1)) / 3) }
    }
    for y in 0..<height {
      let (top, down) = (y / cell, Float(y % cell) / Float(cell))
      for x in 0..<width {
        let (left, right) = (x / cell, Float(x % cell) / Float(cell))
        let upper = (top * columns + left) * 3
        let lower = upper + columns * 3
        for color in 0..<3 {
          let above = grid[upper + color] * (1 - right) + grid[upper + 3 + color] * right
          let below = grid[lower + color] * (1 - right) + grid[lower + 3 + color] * right
          values[(y * width + x) * 3 + color] += above * (1 - down) + below * down
        }
      }
    }
  }
}
