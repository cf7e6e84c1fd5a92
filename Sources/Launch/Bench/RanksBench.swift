import Dist
import Foundation
import Model
import Tensor

/// Times training steps on rising numbers of ranks with the same work a rank, with gradients and parameters that travel
/// while the towers compute and without.
struct RanksBench {
  var preset = "ViT-T-16"
  /// Pairs a rank.
  var batch = 32
  /// Tokens of a caption, both ends counted.
  var captionTokens = 16
  /// Steps of a round; what the last one sends is waited for within the round.
  var steps = 3
  /// Rounds with overlap and without, in turn; the median counts.
  var rounds = 3
  /// How many ranks, each at most those of the job.
  var sizes = [1, 2, 4]
  var reduce = ReduceConfig()

  /// What the last line of output says.
  struct Report: Codable {
    var model: String
    var batch: Int
    var bucketMebibytes: Double
    var kernel: String
    var measured: [Measured]

    enum CodingKeys: String, CodingKey {
      case model, batch, kernel, measured
      case bucketMebibytes = "bucket_mib"
    }
  }

  /// The figures of one number of ranks, of the slowest of them.
  struct Measured: Codable {
    var ranks: Int
    var overlap: Bool
    var stepSeconds: Double
    /// What of it a rank waits for gradients and parameters.
    var exposedSeconds: Double
    /// The step of one rank over this one, of equal overlap.
    var efficiency: Double
    /// What each rank receives in a step.
    var receivedBytes: Int

    enum CodingKeys: String, CodingKey {
      case ranks, overlap, efficiency
      case stepSeconds = "step_s"
      case exposedSeconds = "exposed_s"
      case receivedBytes = "received_bytes"
    }
  }

  func run(_ communicator: Communicator, say: (String) -> Void) throws -> Report {
    let config = try BenchInput.config(preset, captionTokens: captionTokens)
    let sizes = sizes.filter { $0 <= communicator.size }
    guard !sizes.isEmpty else {
      throw ModelError(
        description: "--sizes has no number that is at most the job's \(communicator.size) ranks; start more of them",
        exitCode: 64)
    }
    say(
      "\(preset), \(batch) pairs a rank, buckets of \(reduce.bucket) MiB, \(Threads.count) thread a rank, "
        + "BLAS \(BLAS.kernel)\nranks  overlap  step s  exposed s  efficiency  received MiB")
    var measured: [Measured] = []
    for size in sizes {
      let group = try communicator.split(group: communicator.rank < size ? 0 : 1)
      var found = communicator.rank < size ? try measure(config, group) : []
      // Ranks that have no part in it leave their cores to the others.
      try communicator.patientBarrier()
      for index in found.indices {
        let alone = measured.first { $0.ranks == 1 && $0.overlap == found[index].overlap }
        found[index].efficiency = (alone ?? found[index]).stepSeconds / found[index].stepSeconds
        say(found[index].text)
      }
      measured += found
    }
    return Report(
      model: preset, batch: batch, bucketMebibytes: reduce.bucket, kernel: BLAS.kernel, measured: measured)
  }

  private func measure(_ config: CLIPConfig, _ group: Communicator) throws -> [Measured] {
    let (model, terms) = CLIP<Float>.student(config, ObjectivePreset.clip.options, teacherWidth: nil)
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 0)
    let step = try Step(
      model, terms, AdamW<Float>.Options(), clipNorm: nil, micro: nil, reduce: reduce, communicator: group)
    let count = batch * group.size
    let rows = group.slice(of: count)
    let input = BenchInput(config, rows: rows, tokens: captionTokens)
    var received = 0
    /// Seconds of a step, and what of it was communication in sight.
    func round(_ steps: Int) throws -> (whole: Double, exposed: Double) {
      try group.barrier()
      let start = ContinuousClock.now
      var exposed = 0.0
      for _ in 0..<steps {
        let outcome = try step.run(images: input.images, captions: input.captions, rows: rows, count: count, rate: 1e-4)
        exposed += outcome.seconds.communication
        received = outcome.received
      }
      try clock(&exposed) { try step.settle() }
      return ((ContinuousClock.now - start) / .seconds(1) / Double(steps), exposed / Double(steps))
    }
    // The first step allocates.
    _ = try round(1)
    var times: [Bool: [(whole: Double, exposed: Double)]] = [:]
    for number in 0..<2 * rounds {
      // Without and with, with and without: what drifts meets both alike.
      step.overlaps = number % 4 == 1 || number % 4 == 2
      times[step.overlaps, default: []].append(try round(steps))
    }
    return try [false, true].map { overlaps in
      let sorted = (times[overlaps] ?? []).sorted { $0.whole < $1.whole }
      let median = sorted[sorted.count / 2]
      var slowest = [median.whole, median.exposed, Double(received)]
      try group.maximum(&slowest)
      return Measured(
        ranks: group.size, overlap: overlaps, stepSeconds: slowest[0], exposedSeconds: slowest[1], efficiency: 1,
        receivedBytes: Int(slowest[2]))
    }
  }
}

extension RanksBench.Measured {
  fileprivate var text: String {
    func column(_ text: String, _ width: Int) -> String {
      String(repeating: " ", count: max(width - text.count, 0)) + text
    }
    return column("\(ranks)", 5) + column(overlap ? "on" : "off", 9) + column(Figures.fixed(stepSeconds, 3), 8)
      + column(Figures.fixed(exposedSeconds, 3), 11) + column(Figures.fixed(efficiency, 3), 12)
      + column(Figures.fixed(Double(receivedBytes) / 1_048_576, 1), 14)
  }
}
