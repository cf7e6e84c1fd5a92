import Dist
import Foundation
import Model
import Tensor

/// The time of one call, in milliseconds, over repetitions.
struct MeasuredLatency: Codable, Equatable {
  var median: Double
  /// The 99th percentile: the least time that 99 of 100 repetitions do not exceed.
  var p99: Double
  var repetitions: Int

  /// Takes the seconds of each repetition, of which there is at least one.
  init(seconds: [Double]) {
    let sorted = seconds.sorted()
    let rank = (99 * sorted.count + 99) / 100
    (median, p99, repetitions) = (1000 * seconds.median, 1000 * sorted[rank - 1], sorted.count)
  }

  /// The median and the 99th percentile, without a unit: `1.21 (1.4)`.
  var text: String { "\(Figures.significant(median, 3)) (\(Figures.significant(p99, 3)))" }
}

/// Times what a model does in use: the unit embedding of one image and of one caption, and of many together. Images are
/// prepared and captions are token ids already; decoding and tokenizing are not included.
struct InferenceBench {
  enum Measurement: String, CaseIterable { case latency, throughput }

  let source: ModelSource
  let measurements: Set<Measurement>
  let repetitions: Int
  /// The images and captions that are embedded together for the throughput, and the time spent on each figure of it.
  let batch: Int
  let seconds: Double
  /// The tokens of a caption with both ends. Default: 16, or the whole context if that is shorter.
  let captionTokens: Int?

  struct Report: Encodable {
    var checkpoint: String
    /// The steps of its training, if they are known.
    var step: Int?
    var processor, kernel: String
    var threads, parameters, imageSize, captionTokens: Int
    /// The most memory that the process has had when it has loaded the model and embedded single images and captions.
    var peakBytes: Int?
    /// The latencies of one image and of one caption.
    var imageMs, captionMs: MeasuredLatency?
    var batch: Int
    var imagesPerS, captionsPerS: Double?
  }

  func run(_ communicator: Communicator, log: (String) -> Void) throws -> Report {
    guard communicator.size == 1 else {
      throw UserError(
        "kinship bench inference measures one process, and this job has \(communicator.size) ranks; start it without "
          + "mpirun", status: .usage, isShared: true)
    }
    let (embedder, step) = try source.load(over: communicator, texts: false)
    let (model, config) = (embedder.model, embedder.model.config)
    let tokens = try captionTokens(of: config.text)
    let work = BenchWork(preset: source.checkpoint, batch: batch, captionTokens: tokens)
    try requireMemory(config, over: communicator)
    let input = BenchInput(config, work, over: communicator)
    var report = Report(
      checkpoint: source.checkpoint, step: step, processor: Machine.processorName, kernel: BLAS.kernel,
      threads: Threads.count, parameters: model.parameters.count, imageSize: config.vision.imageSize,
      captionTokens: tokens, batch: batch)
    log(
      "\(config.summary)\n\(report.processor), \(Figures.count(report.threads, "thread")), BLAS \(report.kernel); "
        + "captions of \(tokens) tokens")

    func embed(images: Tensor<Float>) { _ = unitRows(model.visual.forward(images, mode: .evaluation)) }
    func embed(captions: [[Int32]]) { _ = unitRows(model.text.forward(TokenBatch(captions), mode: .evaluation)) }
    if measurements.contains(.latency) {
      let (image, caption) = (input.images.samples(0..<1), [input.captions[0]])
      let latencies = (image: latency { embed(images: image) }, caption: latency { embed(captions: caption) })
      let peak = Int(ProcessMemory.peak * 1_048_576)
      (report.imageMs, report.captionMs, report.peakBytes) = (latencies.image, latencies.caption, peak)
      log(
        "latency, median and 99th percentile of \(repetitions): image \(latencies.image.text) ms, caption "
          + "\(latencies.caption.text) ms; the process has had \(Figures.bytes(peak))")
    }
    if measurements.contains(.throughput) {
      let (images, captions) = (
        throughput { embed(images: input.images) }, throughput { embed(captions: input.captions) }
      )
      (report.imagesPerS, report.captionsPerS) = (images, captions)
      log(
        "throughput, \(batch) together: \(Figures.significant(images, 4)) images/s, "
          + "\(Figures.significant(captions, 4)) captions/s")
    }
    return report
  }

  /// Returns the tokens of a caption, after checking that the model has such captions.
  private func captionTokens(of text: TextConfig) throws -> Int {
    // Captions are made of a start, an end, and words, of which there is at least one.
    guard text.vocabularySize > 3, text.contextLength > 1 else {
      throw UserError(
        source.checkpoint,
        "its captions have \(text.contextLength) tokens of a vocabulary of \(text.vocabularySize); expected at least 2 "
          + "of 4")
    }
    let tokens = captionTokens ?? min(16, text.contextLength)
    guard tokens <= text.contextLength else {
      throw UserError(
        "--caption-tokens \(tokens) is more than the \(text.contextLength) of the context of \(source.checkpoint)",
        status: .usage)
    }
    return tokens
  }

  /// Makes sure that the batches fit into memory beside the weights, which are loaded already.
  private func requireMemory(_ config: CLIPConfig, over ranks: Communicator) throws {
    let parts = try config.memory(pairs: batch, use: .forward).dropFirst()
    try MemoryDemand(subject: "this benchmark", parts: Array(parts), advice: "lower --batch").require(over: ranks)
  }

  /// The seconds of calls that warm up: buffers are allocated, caches filled, and the processor's clock settles.
  private var warmUp: Double { min(1, seconds) }

  private func latency(_ call: () -> Void) -> MeasuredLatency {
    _ = meanSeconds(during: warmUp, runs: 10, call)
    let times = (0..<repetitions).map { _ in
      var time = 0.0
      clock(&time) { call() }
      return time
    }
    return MeasuredLatency(seconds: times)
  }

  /// Returns the items per second of calls that embed a batch each.
  private func throughput(_ call: () -> Void) -> Double {
    _ = meanSeconds(during: warmUp, call)
    return Double(batch) / meanSeconds(during: seconds, runs: 3, call)
  }
}
