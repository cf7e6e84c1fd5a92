import Dist
import Foundation
import Model
import Tensor

/// Times an objective on synthetic features of global batches of rising size N, and compares it with the machine's
/// matrix products. Memory must grow as N · d, and time as N².
struct ObjectiveBench {
  var options = ObjectivePreset.intra.options
  var studentWidth = 512
  var teacherWidth = 768
  /// The global batches: pairs of all ranks.
  var pairs: [Int] = []

  /// The last line of output.
  struct Report: Codable {
    var ranks: Int
    var studentWidth: Int
    var teacherWidth: Int
    var kernel: String
    var batches: [Batch]

    enum CodingKeys: String, CodingKey {
      case ranks, kernel, batches
      case studentWidth = "student_width"
      case teacherWidth = "teacher_width"
    }
  }

  struct Batch: Codable {
    var pairs: Int
    var seconds: Double
    /// The matrix operations of one rank in GFLOP; tiles that are computed twice count twice.
    var gflops: Double
    /// The rate of those operations, as a share of the rate of sgemm at the same shapes.
    var roofShare: Double
    /// The same, but tiles that are computed twice count once.
    var roofShareOnce: Double
    /// The most memory that a rank had resident.
    var peakMebibytes: Double
    /// The memory that was resident before the first feature.
    var baseMebibytes: Double

    enum CodingKeys: String, CodingKey {
      case pairs, seconds, gflops
      case roofShare = "roof_share"
      case roofShareOnce = "roof_share_once"
      case peakMebibytes = "peak_mib"
      case baseMebibytes = "base_mib"
    }
  }

  func run(_ communicator: Communicator, log: (String) -> Void) throws -> Report {
    log(
      "\(communicator.size) ranks, student \(studentWidth) and teacher \(teacherWidth) wide, BLAS \(BLAS.kernel)\n"
        + "      N     seconds   GFLOP/s  of roof    once   peak MiB")
    var batches: [Batch] = []
    for count in pairs {
      let batch = try measure(count, communicator)
      batches.append(batch)
      log(
        String(
          format: "%7d  %10.3f  %8.1f  %6.1f%%  %6.1f%%  %9.1f", count, batch.seconds, batch.gflops / batch.seconds,
          100 * batch.roofShare, 100 * batch.roofShareOnce, batch.peakMebibytes))
    }
    return Report(
      ranks: communicator.size, studentWidth: studentWidth, teacherWidth: teacherWidth, kernel: BLAS.kernel,
      batches: batches)
  }

  /// Measures one batch in its own memory, which is freed afterwards.
  private func measure(_ count: Int, _ communicator: Communicator) throws -> Batch {
    ProcessMemory.resetPeak()
    let base = ProcessMemory.peak
    let store = ParameterStore<Float>()
    let scale = store.declare(CLIPConfig.logitScale, Shape(), .constant(log(1 / 0.07)))
    let objective = Objective(
      options, studentWidth: studentWidth, teacherWidth: teacherWidth, declaringIn: store)
    store.allocate(gradients: true)
    store.initialize(seed: 0)
    let share = communicator.slice(of: count)
    let (image, text) = (features("pictures", share), features("captions", share))
    let ranks = JobRanks<Float>(communicator: communicator)

    func once() throws -> Double {
      let teacher = objective.teacherRows(share, of: count)
      for (rows, name) in [(teacher.image, "teacher images"), (teacher.text, "teacher captions")] {
        rows.fillUniform(-1..<1, purpose: name, UInt64(share.lowerBound))
        normalizeRows(rows, into: rows, reciprocal: Tensor(Shape(rows.rows)))
      }
      try communicator.barrier()
      var seconds = 0.0
      try clock(&seconds) {
        _ = try objective.accumulate(
          image: image, text: text, rows: share, count: count, logitScale: scale, teacherScale: 1 / 0.07, ranks: ranks)
        _ = objective.rawGradients()
        try communicator.barrier()
      }
      return seconds
    }
    // A small batch is computed once beforehand to allocate buffers; for a large one the allocation does not matter.
    if count <= 8192 { _ = try once() }
    Profile.start()
    let seconds = try once()
    let profile = Profile.stop()
    let peak = ProcessMemory.peak
    let roof = MatrixRoof(profile.products)
    let rate = try roof.meanRate(over: communicator)
    var memory = [peak, base]
    try communicator.allReduce(&memory, .maximum)
    let size = ObjectiveSize(rows: share.count, count: count, student: studentWidth, teacher: teacherWidth)
    let once = options.operationsOnce(size)
    return Batch(
      pairs: count, seconds: seconds, gflops: roof.operations / 1e9, roofShare: roof.operations / seconds / rate,
      roofShareOnce: once / seconds / rate, peakMebibytes: memory[0], baseMebibytes: memory[1])
  }

  private func features(_ name: String, _ rows: Range<Int>) -> Tensor<Float> {
    let tensor = Tensor<Float>(Shape(rows.count, studentWidth))
    tensor.fillUniform(-1..<1, purpose: name, UInt64(rows.lowerBound))
    return tensor
  }
}
