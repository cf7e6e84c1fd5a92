import Dist
import Foundation
import Model
import Tensor

/// Times training steps on rising numbers of ranks with the same work for each, with and without overlap.
struct RanksBench {
  let work: BenchWork
  /// The steps of a round, which ends when the last step's communication is complete.
  let steps, rounds: Int
  let sizes: [Int]
  var reduce = ReduceConfig()

  struct Report: Encodable {
    var model: String
    var batch: Int
    var bucketMib: Double
    var kernel: String
    var measured: [Measured]
  }

  /// The figures for one number of ranks, by the slowest of them.
  struct Measured: Encodable {
    var ranks: Int
    var overlap: Bool
    /// The seconds of a step, and the part of them that a rank waits for gradients and parameters.
    var stepS, exposedS: Double
    /// The step time of one rank relative to this one, with the same overlap.
    var efficiency = 1.0
    var receivedBytes: Int

    fileprivate var text: String {
      Figures.row(
        ("\(ranks)", 5), (overlap ? "on" : "off", 9), (Figures.fixed(stepS, 3), 8), (Figures.fixed(exposedS, 3), 11),
        (Figures.fixed(efficiency, 3), 12), (Figures.fixed(Double(receivedBytes) / 1_048_576, 1), 14))
    }
  }

  func run(_ communicator: Communicator, log: (String) -> Void) throws -> Report {
    let config = try work.config()
    let sizes = sizes.filter { $0 <= communicator.size }
    guard !sizes.isEmpty else {
      let reason = "--sizes has no number that is at most the job's \(communicator.size) ranks; start more of them"
      throw UserError(nil, reason, status: .usage)
    }
    log(
      "\(work.preset), \(work.batch) pairs a rank, buckets of \(reduce.bucket) MiB, "
        + "\(Figures.count(Threads.count, "thread")) a rank, BLAS \(BLAS.kernel)\n"
        + "ranks  overlap  step s  exposed s  efficiency  received MiB")
    var measured: [Measured] = []
    for size in sizes {
      let group = try communicator.split(group: communicator.rank < size ? 0 : 1)
      var found = communicator.rank < size ? try measure(config, group) : []
      // Ranks that take no part leave their cores to the others.
      try communicator.patientBarrier()
      for index in found.indices {
        let alone = measured.first { $0.ranks == 1 && $0.overlap == found[index].overlap }
        found[index].efficiency = (alone ?? found[index]).stepS / found[index].stepS
        log(found[index].text)
      }
      measured += found
    }
    return Report(
      model: work.preset, batch: work.batch, bucketMib: reduce.bucket, kernel: BLAS.kernel, measured: measured)
  }

  private func measure(_ config: CLIPConfig, _ group: Communicator) throws -> [Measured] {
    try work.requireMemory(config, over: group)
    let (model, terms) = CLIP<Float>.student(config, ObjectivePreset.clip.options, teacherWidth: nil)
    model.parameters.allocate(gradients: true)
    model.initialize(seed: 0)
    let step = try Step(model, terms, .init(reduce: reduce), communicator: group)
    let input = BenchInput(config, work, over: group)
    var received = 0
    /// Returns the seconds of a step, and those of its exposed communication.
    func round(_ steps: Int) throws -> (whole: Double, exposed: Double) {
      try group.barrier()
      var (whole, exposed) = (0.0, 0.0)
      try clock(&whole) {
        for _ in 0..<steps {
          let outcome = try input.train(step)
          exposed += outcome.seconds.communication
          received = outcome.received
        }
        try clock(&exposed) { try step.waitForParameters() }
      }
      return (whole / Double(steps), exposed / Double(steps))
    }
    // The first step allocates.
    _ = try round(1)
    var times: [Bool: [(whole: Double, exposed: Double)]] = [:]
    for number in 0..<2 * rounds {
      // Without, with, with, without: a drift affects both alike.
      step.sync.buckets.overlaps = number % 4 == 1 || number % 4 == 2
      times[step.sync.buckets.overlaps, default: []].append(try round(steps))
    }
    return try [false, true].map { overlaps in
      let sorted = (times[overlaps] ?? []).sorted { $0.whole < $1.whole }
      let median = sorted[sorted.count / 2]
      var slowest = [median.whole, median.exposed, Double(received)]
      try group.allReduce(&slowest, .maximum)
      return Measured(
        ranks: group.size, overlap: overlaps, stepS: slowest[0], exposedS: slowest[1], receivedBytes: Int(slowest[2]))
    }
  }
}
