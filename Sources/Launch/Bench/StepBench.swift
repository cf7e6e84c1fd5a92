import Dist
import Foundation
import Model
import Tensor

/// Times training steps on made-up pictures and captions, and holds them against the machine's matrix products.
struct StepBench {
  var preset = "ViT-T-16"
  /// Pairs a rank.
  var batch = 32
  /// Tokens of a caption, both ends counted.
  var captionTokens = 16
  var steps = 5
  var micro: Int?
  var objective = ObjectivePreset.intra
  var precision = Precision.fp32
  /// What backward computes again; each choice is measured.
  var recompute = [Recompute.none]
  /// Width of the teacher's embeddings, which are given: computing them is another benchmark.
  static let teacherWidth = 512

  /// What the last line of output says; the shares are of a step's time and sum to 1.
  struct Report: Codable {
    var model: String
    var objective: String
    var precision: Precision
    var recompute: Recompute
    var ranks: Int
    var batch: Int
    var captionTokens: Int
    var samplesPerSecond: Double
    /// Operations of the numerator over time, as a share of the roof.
    var roofShare: Double
    /// 3 × the forward's matrix operations of packed tokens, attention included, of one rank's step.
    var stepGflops: Double
    /// The roof of one rank, a second.
    var roofGflops: Double
    var peakMebibytes: Double
    /// What the towers keep from forward to backward, with their scratch.
    var activationMebibytes: Double
    var stepSeconds: Double
    var shares: [String: Double]
    var kernel: String
    /// Of every choice of recomputation; what stands above is of the first.
    var choices: [Choice]?

    struct Choice: Codable {
      var recompute: Recompute
      var stepSeconds: Double
      var activationMebibytes: Double
      var peakMebibytes: Double

      enum CodingKeys: String, CodingKey {
        case recompute
        case stepSeconds = "step_s"
        case activationMebibytes = "activation_mib"
        case peakMebibytes = "peak_mib"
      }
    }

    enum CodingKeys: String, CodingKey {
      case model, objective, precision, recompute, ranks, batch, shares, kernel, choices
      case captionTokens = "caption_tokens"
      case samplesPerSecond = "samples_per_s"
      case roofShare = "roof_share"
      case stepGflops = "step_gflops"
      case roofGflops = "roof_gflops"
      case peakMebibytes = "peak_mib"
      case activationMebibytes = "activation_mib"
      case stepSeconds = "step_s"
    }
  }

  func run(_ communicator: Communicator, say: (String) -> Void) throws -> Report {
    let reports = try recompute.map { try measure($0, communicator, say: say) }
    guard reports.count > 1 else { return reports[0] }
    var report = reports[0]
    report.choices = reports.map {
      Report.Choice(
        recompute: $0.recompute, stepSeconds: $0.stepSeconds, activationMebibytes: $0.activationMebibytes,
        peakMebibytes: $0.peakMebibytes)
    }
    for choice in report.choices ?? [] {
      say(
        "recompute \(choice.recompute.rawValue): \(Figures.fixed(choice.stepSeconds, 3)) s a step, activations "
          + "\(Figures.fixed(choice.activationMebibytes, 1)) MiB, peak \(Figures.fixed(choice.peakMebibytes, 0)) MiB")
    }
    return report
  }

  private func measure(
    _ recompute: Recompute, _ communicator: Communicator, say: (String) -> Void
  ) throws -> Report {
    ProcessMemory.resetPeak()
    let config = try BenchInput.config(preset, captionTokens: captionTokens)
    let products = try ProductPrecision.agreed(precision, over: communicator)
    for warning in products.warnings { say("warning: \(warning)") }
    let precision = products.used
    let options = objective.options
    let (model, terms) = CLIP<Float>.student(
      config, options, teacherWidth: options.needsTeacher ? Self.teacherWidth : nil, precision: precision,
      recompute: recompute)
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 0)
    let step = try Step(
      model, terms, AdamW<Float>.Options(decay: 0.1), clipNorm: nil, micro: micro, communicator: communicator)
    let rows = communicator.slice(of: batch * communicator.size)
    let input = BenchInput(config, rows: rows, tokens: captionTokens)
    let (images, captions) = (input.images, input.captions)
    let given = options.needsTeacher ? (embeddings("pictures", rows), embeddings("captions", rows)) : nil

    func once() throws -> StepOutcome {
      let count = batch * communicator.size
      if let given {
        let teacher = terms.teacherRows(rows, of: count)
        copy(given.0, into: teacher.image)
        copy(given.1, into: teacher.text)
      }
      return try step.run(
        images: images, captions: captions, rows: rows, count: count, rate: 1e-4,
        teacherScale: given.map { _ in 1 / 0.07 })
    }
    say(
      "\(preset), objective \(objective.rawValue), \(batch) pairs a rank on \(communicator.size) ranks of \(Threads.count == 1 ? "1 thread" : "\(Threads.count) threads"), BLAS \(BLAS.kernel)"
        + [products.note, recompute.note].compactMap { $0 }.map { "\n\($0)" }.joined())
    // The first step allocates; the second is recorded for the shapes of its products.
    _ = try once()
    Profile.start()
    _ = try once()
    let roof = MatrixRoof(Profile.stop().products)
    let before = try roof.meanRate(over: communicator)
    say("roof before: \(gigaflops(before)) GFLOP/s a rank over \(roof.products.count) shapes")

    var times: [Double] = []
    var outcomes: [StepOutcome] = []
    Profile.start()
    for number in 1...steps {
      try communicator.barrier()
      let start = ContinuousClock.now
      let outcome = try once()
      times.append((ContinuousClock.now - start) / .seconds(1))
      outcomes.append(outcome)
      say(
        "step \(number): \(times[times.count - 1].formatted(.number.precision(.fractionLength(3)))) s, loss \(outcome.loss)"
      )
    }
    let profile = Profile.stop()
    let after = try roof.meanRate(over: communicator)
    say("roof after: \(gigaflops(after)) GFLOP/s a rank")

    var slowest = [times.sorted()[times.count / 2]]
    try communicator.maximum(&slowest)
    let operations = 3 * model.forwardOperations(pictures: batch, captions: captions.map(\.count))
    let rate = (before + after) / 2
    var peak = [ProcessMemory.peak]
    try communicator.maximum(&peak)
    return Report(
      model: preset, objective: objective.rawValue, precision: precision, recompute: recompute,
      ranks: communicator.size, batch: batch, captionTokens: captionTokens,
      samplesPerSecond: Double(batch * communicator.size) / slowest[0],
      roofShare: operations / slowest[0] / rate, stepGflops: operations / 1e9, roofGflops: rate / 1e9,
      peakMebibytes: peak[0], activationMebibytes: Double(activationBytes(config, recompute)) / 1_048_576,
      stepSeconds: slowest[0], shares: shares(outcomes, profile, times.reduce(0, +)),
      kernel: BLAS.kernel)
  }

  /// In the buffers of both towers, by the count that tests hold them to.
  private func activationBytes(_ config: CLIPConfig, _ recompute: Recompute) -> Int {
    let held = min(batch, micro ?? batch)
    let use = held < batch ? TowerUse.trainingInPieces : .training
    let pictures = config.vision.bufferBytes(
      pictures: held, embedding: config.embedding, threads: Threads.count, use: use, recompute: recompute,
      precision: precision)
    let captions = config.text.bufferBytes(
      captions: held, rows: held * captionTokens, longest: captionTokens, embedding: config.embedding,
      threads: Threads.count, use: use, recompute: recompute, precision: precision)
    return pictures + captions
  }

  /// Of this rank's time; data is given here, so its share is 0 by construction and not listed as measured.
  private func shares(_ outcomes: [StepOutcome], _ profile: Profile.Record, _ total: Double) -> [String: Double] {
    func part(_ seconds: (StepSeconds) -> Double) -> Double { outcomes.reduce(0) { $0 + seconds($1.seconds) } / total }
    let towers = part { $0.forward + $0.backward }
    let kernels = [
      "matrix_products": profile.matmul, "attention": profile.attention, "rounding": profile.rounding,
      "unfolding": profile.unfolding, "batch_norm": profile.batchNorm,
    ].mapValues { $0 / total }
    let others = [
      "other_kernels": towers - kernels.values.reduce(0, +),
      "loss": part(\.loss), "optimizer": part(\.optimizer), "communication": part(\.communication), "data": 0,
    ]
    return kernels.merging(others) { $1 }.mapValues { ($0 * 1000).rounded() / 1000 }
  }

  /// Unit rows, as a teacher gives them.
  private func embeddings(_ name: String, _ rows: Range<Int>) -> Tensor<Float> {
    let raw = Tensor<Float>(Shape(rows.count, Self.teacherWidth))
    var random = KeyedRandom(seed: 0, purpose: "bench embeddings of \(name)", UInt64(rows.lowerBound))
    for index in 0..<raw.count { raw[index] = Float(random.normal()) }
    return unitRows(raw)
  }

  private func gigaflops(_ rate: Double) -> String { (rate / 1e9).formatted(.number.precision(.fractionLength(1))) }
}
