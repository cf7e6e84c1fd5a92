import Dist
import Foundation
import Model
import Tensor

/// Times training steps on synthetic images and captions, and compares them with the machine's matrix products.
struct StepBench {
  let work: BenchWork
  let steps: Int
  let microBatchSize: Int?
  let objective: ObjectivePreset
  let precision: ComputePrecision
  let recompute: [Recompute]
  /// The width of the teacher's embeddings, which are given: computing them is another benchmark.
  static let teacherWidth = 512

  struct Report: Encodable {
    var model, objective: String
    var precision: ComputePrecision
    var recompute: Recompute
    var patchDropout: Double
    var ranks, batch, captionTokens: Int
    var samplesPerS: Double
    /// The rate of `stepGflops`, as a share of the roof, and of the processor's own rate.
    var roofShare: Double
    var processorShare: Double?
    /// Three times the forward's matrix operations of one rank's step in GFLOP, with packed tokens and attention, and
    /// of transformers' last blocks only what is computed.
    var stepGflops: Double
    /// The roof of one rank in GFLOP/s, and the rate of the processor's own multiply-adds on all of its threads and on
    /// one.
    var roofGflops: Double
    var processorGflops, coreGflops: Double?
    /// The memory at the peak, and that of the towers' activations and scratch.
    var peakMib, activationMib: Double
    var stepS: Double
    /// The parts' shares of a step's time, which sum to 1.
    var shares: [String: Double]
    var kernel: String
    /// The figures of every choice of recomputation, if there are several; those above are of the first.
    var choices: [Choice]?
  }

  struct Choice: Encodable {
    var recompute: Recompute
    var stepS, activationMib, peakMib: Double
  }

  func run(_ communicator: Communicator, log: (String) -> Void) throws -> Report {
    let reports = try recompute.map { try measure($0, communicator, log: log) }
    var report = reports[0]
    guard reports.count > 1 else { return report }
    report.choices = reports.map {
      Choice(recompute: $0.recompute, stepS: $0.stepS, activationMib: $0.activationMib, peakMib: $0.peakMib)
    }
    for choice in reports {
      log(
        "recompute \(choice.recompute.rawValue): \(Figures.fixed(choice.stepS, 3)) s a step, activations "
          + "\(Figures.fixed(choice.activationMib, 1)) MiB, peak \(Figures.fixed(choice.peakMib, 0)) MiB")
    }
    return report
  }

  private func measure(_ recompute: Recompute, _ communicator: Communicator, log: (String) -> Void) throws -> Report {
    ProcessMemory.resetPeak()
    let config = try work.config()
    let products = try ProductPrecision.agreed(precision, over: communicator)
    for warning in products.warnings { log("warning: \(warning)") }
    let precision = products.used
    try work.requireMemory(
      config, microBatchSize: microBatchSize, recompute: recompute, precision: precision, over: communicator)
    let options = objective.options
    let (model, terms) = CLIP<Float>.student(
      config, options, teacherWidth: options.needsTeacher ? Self.teacherWidth : nil, precision: precision,
      recompute: recompute)
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 0)
    let step = try Step(
      model, terms, .init(optimizer: .init(decay: 0.1), microBatchSize: microBatchSize), communicator: communicator)
    let input = BenchInput(config, work, over: communicator)
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
      "\(work.preset), objective \(objective.rawValue), \(work.setting(communicator))"
        + [products.note, recompute.note, config.vision.dropoutNote()].compactMap { $0 }.map { "\n\($0)" }.joined())
    // The first step allocates; the second is recorded for the shapes of its products.
    _ = try once()
    Profile.start()
    _ = try once()
    let roof = MatrixRoof(Profile.stop().products)
    let before = try roof.rates(over: communicator)
    log("roof before, over \(roof.products.count) shapes: \(before.text)")

    let (times, outcomes, profile) = try timed(communicator, log: log, once)
    let after = try roof.rates(over: communicator)
    log("roof after: \(after.text)")

    let slowest = try communicator.allReduce(times.median, .maximum)
    let operations =
      3 * model.forwardOperations(images: work.batch, captions: input.captions.map(\.count), use: .training)
    let roofs = RoofRates.mean(of: [before, after])
    let rate = operations / slowest
    let peak = try communicator.allReduce(ProcessMemory.peak, .maximum)
    return Report(
      model: work.preset, objective: objective.rawValue, precision: precision, recompute: recompute,
      patchDropout: work.patchDropout, ranks: communicator.size, batch: work.batch, captionTokens: work.captionTokens,
      samplesPerS: Double(input.count) / slowest, roofShare: rate / roofs.library,
      processorShare: roofs.processor.map { rate / $0 }, stepGflops: operations / 1e9, roofGflops: roofs.library / 1e9,
      processorGflops: roofs.processor.map { $0 / 1e9 }, coreGflops: roofs.core.map { $0 / 1e9 }, peakMib: peak,
      activationMib: Double(activationBytes(config, recompute)) / 1_048_576,
      stepS: slowest, shares: shares(outcomes, profile, times.reduce(0, +)), kernel: BLAS.kernel)
  }

  /// Runs and clocks the steps, which all ranks begin together, and records the time of their kernels.
  private func timed(
    _ communicator: Communicator, log: (String) -> Void, _ once: () throws -> StepOutcome
  ) throws -> (times: [Double], outcomes: [StepOutcome], profile: Profile.Record) {
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
    return (times, outcomes, Profile.stop())
  }

  /// Returns the bytes of both towers' buffers, by the formulas that tests compare with the buffers.
  private func activationBytes(_ config: CLIPConfig, _ recompute: Recompute) -> Int {
    let held = min(work.batch, microBatchSize ?? work.batch)
    let use = held < work.batch ? TowerUse.trainingInPieces : .training
    let bytes = config.bufferBytes(
      images: held, captions: (held, held * work.captionTokens, work.captionTokens), threads: Threads.count,
      uses: (use, use), recompute: recompute, precision: precision)
    return bytes.images + bytes.captions
  }

  /// Returns the shares of this rank's time. The data are in memory, so their share is 0 by construction.
  private func shares(_ outcomes: [StepOutcome], _ profile: Profile.Record, _ total: Double) -> [String: Double] {
    func part(_ seconds: (StepSeconds) -> Double) -> Double { outcomes.reduce(0) { $0 + seconds($1.seconds) } / total }
    let towers = part { $0.forward + $0.backward }
    let kernels = [
      "matrix_products": profile.matmul, "attention": profile.attention, "rounding": profile.rounding,
      "unfolding": profile.unfolding, "batch_norm": profile.batchNorm,
    ].mapValues { $0 / total }
    var others = ["loss": part(\.loss), "optimizer": part(\.optimizer), "communication": part(\.communication)]
    others["data"] = 0
    others["between_parts"] = 1 - towers - others.values.reduce(0, +)
    others["other_kernels"] = towers - kernels.values.reduce(0, +)
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
