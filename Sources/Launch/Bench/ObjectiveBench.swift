import Dist
import Foundation
import Model
import Tensor

/// Times an objective on synthetic features of global batches of rising size N, and compares it with the machine's
/// matrix products. Memory must grow as N · d, and time as N².
struct ObjectiveBench {
  var options = ObjectivePreset.intra.options
  let studentWidth, teacherWidth: Int
  let pairs: [Int]

  struct Report: Encodable {
    var ranks, studentWidth, teacherWidth: Int
    var kernel: String
    var batches: [Batch]
  }

  struct Batch: Encodable {
    var pairs: Int
    var seconds: Double
    /// The matrix operations of one rank in GFLOP; tiles that are computed twice count twice.
    var gflops: Double
    /// Their rate, as a share of sgemm's at the same shapes; and the same, but tiles computed twice count once.
    var roofShare, roofShareOnce: Double
    /// Their rate, as a share of that of the processor's own multiply-adds.
    var processorShare: Double?
    /// The most memory that a rank had resident, and what was resident before the first feature.
    var peakMib, baseMib: Double
  }

  func run(_ communicator: Communicator, log: (String) -> Void) throws -> Report {
    log(
      "\(communicator.size) ranks, student \(studentWidth) and teacher \(teacherWidth) wide, BLAS \(BLAS.kernel)\n"
        + "      N     seconds   GFLOP/s  of roof    once   peak MiB")
    let batches = try pairs.map { count in
      try requireMemory(count, communicator)
      let batch = try measure(count, communicator)
      log(
        String(
          format: "%7d  %10.3f  %8.1f  %6.1f%%  %6.1f%%  %9.1f", count, batch.seconds, batch.gflops / batch.seconds,
          100 * batch.roofShare, 100 * batch.roofShareOnce, batch.peakMib))
      return batch
    }
    return Report(
      ranks: communicator.size, studentWidth: studentWidth, teacherWidth: teacherWidth, kernel: BLAS.kernel,
      batches: batches)
  }

  private func requireMemory(_ count: Int, _ communicator: Communicator) throws {
    let rows = communicator.slice(of: count).count
    let size = ObjectiveSize(rows: rows, count: count, student: studentWidth, teacher: teacherWidth)
    let parts = [
      RunEstimate.Part(name: "embeddings", bytes: 4 * (options.numbers(size, others: []) + 2 * rows * studentWidth)),
      // A head for images and one for captions, and their gradients.
      RunEstimate.Part(name: "heads", bytes: 16 * studentWidth * teacherWidth),
    ]
    try MemoryDemand(subject: "this benchmark", parts: parts, advice: "lower --pairs, --student or --teacher")
      .require(over: communicator)
  }

  /// Measures one batch in its own memory, which is freed afterwards.
  private func measure(_ count: Int, _ communicator: Communicator) throws -> Batch {
    ProcessMemory.resetPeak()
    let base = ProcessMemory.peak
    let store = ParameterStore<Float>()
    let scale = store.declare(CLIPConfig.logitScale, Shape(), .constant(log(1 / 0.07)))
    let objective = Objective(options, studentWidth: studentWidth, teacherWidth: teacherWidth, declaringIn: store)
    store.allocate(gradients: true)
    store.initialize(seed: 0)
    let share = communicator.slice(of: count)
    func features(_ name: String) -> Tensor<Float> {
      Tensor<Float>(Shape(share.count, studentWidth)).fillUniform(-1..<1, purpose: name, UInt64(share.lowerBound))
    }
    let (image, text) = (features("pictures"), features("captions"))
    let ranks = JobRanks<Float>(communicator: communicator)

    func once() throws -> Double {
      let teacher = objective.teacherRows(share, of: count)
      for (rows, name) in [(teacher.image, "teacher images"), (teacher.text, "teacher captions")] {
        rows.fillUniform(-1..<1, purpose: name, UInt64(share.lowerBound))
        normalizeRows(rows, into: rows, reciprocal: Tensor(Shape(rows.rows)))
      }
      try communicator.barrier()
      return try ContinuousClock().measure {
        _ = try objective.accumulate(
          image: image, text: text, rows: share, count: count, logitScale: scale, teacherScale: 1 / 0.07, ranks: ranks)
        _ = objective.rawGradients()
        try communicator.barrier()
      } / .seconds(1)
    }
    // A small batch is computed once beforehand to allocate buffers; for a large one the allocation does not matter.
    if count <= 8192 { _ = try once() }
    Profile.start()
    let seconds = try once()
    let products = Profile.stop().products
    var memory = [ProcessMemory.peak, base]
    let roof = MatrixRoof(products)
    let roofs = try roof.rates(over: communicator)
    try communicator.allReduce(&memory, .maximum)
    let size = ObjectiveSize(rows: share.count, count: count, student: studentWidth, teacher: teacherWidth)
    let rate = roof.operations / seconds
    return Batch(
      pairs: count, seconds: seconds, gflops: roof.operations / 1e9, roofShare: rate / roofs.library,
      roofShareOnce: options.operations(size, once: true) / seconds / roofs.library,
      processorShare: roofs.processor.map { rate / $0 }, peakMib: memory[0], baseMib: memory[1])
  }
}
