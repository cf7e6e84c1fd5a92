import Dist
import Foundation
import Model
import Tensor

/// Times training steps on synthetic images and captions, and compares them with the machine's matrix products.
struct StepBench {
  var preset = "ViT-T-16"
  /// The pairs of each rank.
  var batch = 32
  /// The tokens of a caption, including both ends.
  var captionTokens = 16
  var steps = 5
  var microBatchSize: Int?
  var objective = ObjectivePreset.intra
  var precision = ComputePrecision.fp32
  /// The choices of what backward recomputes, each of which is measured.
  var recompute = [Recompute.none]
  /// The width of the teacher's embeddings, which are given: computing them is another benchmark.
  static let teacherWidth = 512

  /// The last line of output. The shares of a step's time sum to 1.
  struct Report: Codable {
    var model: String
    var objective: String
    var precision: ComputePrecision
    var recompute: Recompute
    var ranks: Int
    var batch: Int
    var captionTokens: Int
    var samplesPerSecond: Double
    /// The rate of `stepGflops`, as a share of the roof.
    var roofShare: Double
    /// Three times the forward's matrix operations of one rank's step in GFLOP, with packed tokens and attention.
    var stepGflops: Double
    /// The roof of one rank in GFLOP/s.
    var roofGflops: Double
    var peakMebibytes: Double
    /// The memory of the towers' activations and scratch.
    var activationMebibytes: Double
    var stepSeconds: Double
    var shares: [String: Double]
    var kernel: String
    /// The figures of every choice of recomputation, if there are several; those above are of the first.
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

  func run(_ communicator: Communicator, log: (String) -> Void) throws -> Report {
    let reports = try recompute.map { try measure($0, communicator, log: log) }
    guard reports.count > 1 else { return reports[0] }
    var report = reports[0]
    report.choices = reports.map {
      Report.Choice(
        recompute: $0.recompute, stepSeconds: $0.stepSeconds, activationMebibytes: $0.activationMebibytes,
        peakMebibytes: $0.peakMebibytes)
    }
    for choice in report.choices ?? [] {
      log(
        "recompute \(choice.recompute.rawValue): \(Figures.fixed(choice.stepSeconds, 3)) s a step, activations "
          + "\(Figures.fixed(choice.activationMebibytes, 1)) MiB, peak \(Figures.fixed(choice.peakMebibytes, 0)) MiB")
    }
    return report
  }

  private func measure(
    _ recompute: Recompute, _ communicator: Communicator, log: (String) -> Void
  ) throws -> Report {
    ProcessMemory.resetPeak()
    let config = try BenchInput.config(preset, captionTokens: captionTokens)
    let products = try ProductPrecision.agreed(precision, over: communicator)
    for warning in products.warnings { log("warning: \(warning)") }
    let precision = products.used
    let options = objective.options
    let (model, terms) = CLIP<Float>.student(
      config, options, teacherWidth: options.needsTeacher ? Self.teacherWidth : nil, precision: precision,
      recompute: recompute)
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 0)
    let step = try Step(
      model, terms, .init(optimizer: .init(decay: 0.1), microBatchSize: microBatchSize), communicator: communicator)
    let input = BenchInput(config, batch: batch, tokens: captionTokens, over: communicator)
    let rows = input.rows
    let given = options.needsTeacher ? (embeddings("pictures", rows), embeddings("captions", rows)) : nil

    func once() throws -> StepOutcome {
      if let given {
        let teacher = terms.teacherRows(rows, of: input.count)
        copy(given.0, into: teacher.image)
        copy(given.1, into: teacher.text)
      }
      return try input.train(step, teacherScale: given.map { _ in 1 / 0.07 })
    }
    log(
      "\(preset), objective \(objective.rawValue), \(BenchInput.setting(batch, communicator))"
        + [products.note, recompute.note].compactMap { $0 }.map { "\n\($0)" }.joined())
    // The first step allocates; the second is recorded for the shapes of its products.
    _ = try once()
    Profile.start()
    _ = try once()
    let roof = MatrixRoof(Profile.stop().products)
    let before = try roof.meanRate(over: communicator)
    log("roof before: \(Figures.fixed(before / 1e9, 1)) GFLOP/s a rank over \(roof.products.count) shapes")

    var times: [Double] = []
    var outcomes: [StepOutcome] = []
    Profile.start()
    for number in 1...steps {
      try communicator.barrier()
      var seconds = 0.0
      let outcome = try clock(&seconds) { try once() }
      times.append(seconds)
      outcomes.append(outcome)
      log("step \(number): \(Figures.fixed(seconds, 3)) s, loss \(outcome.loss)")
    }
    let profile = Profile.stop()
    let after = try roof.meanRate(over: communicator)
    log("roof after: \(Figures.fixed(after / 1e9, 1)) GFLOP/s a rank")

    let slowest = try communicator.allReduce(times.median, .maximum)
    let operations = 3 * model.forwardOperations(images: batch, captions: input.captions.map(\.count))
    let rate = (before + after) / 2
    let peak = try communicator.allReduce(ProcessMemory.peak, .maximum)
    return Report(
      model: preset, objective: objective.rawValue, precision: precision, recompute: recompute,
      ranks: communicator.size, batch: batch, captionTokens: captionTokens,
      samplesPerSecond: Double(input.count) / slowest,
      roofShare: operations / slowest / rate, stepGflops: operations / 1e9, roofGflops: rate / 1e9,
      peakMebibytes: peak, activationMebibytes: Double(activationBytes(config, recompute)) / 1_048_576,
      stepSeconds: slowest, shares: shares(outcomes, profile, times.reduce(0, +)),
      kernel: BLAS.kernel)
  }

  /// Returns the bytes of both towers' buffers, by the formulas that tests compare with the buffers.
  private func activationBytes(_ config: CLIPConfig, _ recompute: Recompute) -> Int {
    let held = min(batch, microBatchSize ?? batch)
    let use = held < batch ? TowerUse.trainingInPieces : .training
    let images = config.vision.bufferBytes(
      images: held, embedding: config.embedding, threads: Threads.count, use: use, recompute: recompute,
      precision: precision)
    let captions = config.text.bufferBytes(
      captions: (count: held, tokens: held * captionTokens, longest: captionTokens), embedding: config.embedding,
      threads: Threads.count, use: use, recompute: recompute, precision: precision)
    return images + captions
  }

  /// Returns the shares of this rank's time. The data are in memory, so their share is 0 by construction.
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

  /// Returns rows of length 1, as a teacher gives them.
  private func embeddings(_ name: String, _ rows: Range<Int>) -> Tensor<Float> {
    let raw = Tensor<Float>(Shape(rows.count, Self.teacherWidth))
    var random = KeyedRandom(seed: 0, purpose: "bench embeddings of \(name)", UInt64(rows.lowerBound))
    for index in 0..<raw.count { raw[index] = Float(random.normal()) }
    return unitRows(raw)
  }
}
