import Dist
import Foundation
import Model
import Tensor

/// Times an objective on made-up features of global batches of rising size, and holds it against the machine's matrix
/// products: memory must grow as N · d and time as N².
struct ObjectiveBench {
  var options = ObjectivePreset.intra.options
  var studentWidth = 512
  var teacherWidth = 768
  /// Global batches, all ranks' pairs.
  var pairs: [Int] = []

  /// What the last line of output says.
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
    /// Matrix operations of one rank, as they were computed, tiles that are computed twice counted twice.
    var gflops: Double
    /// Those operations over time, as a share of the rate of sgemm at the same shapes.
    var roofShare: Double
    /// The same with tiles that are computed twice counted once.
    var roofShareOnce: Double
    /// The most memory a rank had resident, and what it had before the first feature.
    var peakMebibytes: Double
    var baseMebibytes: Double

    enum CodingKeys: String, CodingKey {
      case pairs, seconds, gflops
      case roofShare = "roof_share"
      case roofShareOnce = "roof_share_once"
      case peakMebibytes = "peak_mib"
      case baseMebibytes = "base_mib"
    }
  }

  func run(_ communicator: Communicator, say: (String) -> Void) throws -> Report {
    say(
      "\(communicator.size) ranks, student \(studentWidth) and teacher \(teacherWidth) wide, BLAS \(BLAS.kernel)\n"
        + "      N     seconds   GFLOP/s  of roof    once   peak MiB")
    var batches: [Batch] = []
    for count in pairs {
      let batch = try measure(count, communicator)
      batches.append(batch)
      say(
        String(
          format: "%7d  %10.3f  %8.1f  %6.1f%%  %6.1f%%  %9.1f", count, batch.seconds, batch.gflops / batch.seconds,
          100 * batch.roofShare, 100 * batch.roofShareOnce, batch.peakMebibytes))
    }
    return Report(
      ranks: communicator.size, studentWidth: studentWidth, teacherWidth: teacherWidth, kernel: BLAS.kernel,
      batches: batches)
  }

  /// One batch in memory of its own, which is gone afterwards.
  private func measure(_ count: Int, _ communicator: Communicator) throws -> Batch {
    ProcessMemory.resetPeak()
    let base = ProcessMemory.peak
    let store = ParameterStore<Float>()
    let scale = store.declare("logit_scale", Shape(), .constant(log(1 / 0.07)))
    let objective = Objective(
      options, studentWidth: studentWidth, teacherWidth: teacherWidth, declaringIn: store)
    store.allocate(gradients: true)
    store.initialize(seed: 0)
    let share = communicator.slice(of: count)
    let (image, text) = (features("pictures", share), features("captions", share))
    let ranks = JobRanks<Float>(communicator: communicator)

    func once() throws -> Double {
      let taught = objective.teacherRows(share, of: count)
      for (rows, name) in [(taught.image, "teacher pictures"), (taught.text, "teacher captions")] {
        fill(rows, name, share)
        normalizeRows(rows, into: rows, reciprocal: Tensor(Shape(rows.rows)))
      }
      try communicator.barrier()
      let start = ContinuousClock.now
      _ = try objective.accumulate(
        image: image, text: text, rows: share, count: count, logitScale: scale, teacherScale: 1 / 0.07, ranks: ranks)
      _ = objective.rawGradients()
      try communicator.barrier()
      return (ContinuousClock.now - start) / .seconds(1)
    }
    // A small batch is computed once before, so that buffers are there; a large one takes long enough not to mind.
    if count <= 8192 { _ = try once() }
    Profile.start()
    let seconds = try once()
    let profile = Profile.stop()
    let peak = ProcessMemory.peak
    let roof = MatrixRoof(profile.products)
    try communicator.barrier()
    var figures = [roof.rate(seconds: 0.05)]
    try communicator.sum(&figures)
    let rate = figures[0] / Double(communicator.size)
    var memory = [peak, base]
    try communicator.maximum(&memory)
    let size = ObjectiveSize(rows: share.count, count: count, student: studentWidth, teacher: teacherWidth)
    let once = options.operationsOnce(size)
    return Batch(
      pairs: count, seconds: seconds, gflops: roof.operations / 1e9, roofShare: roof.operations / seconds / rate,
      roofShareOnce: once / seconds / rate, peakMebibytes: memory[0], baseMebibytes: memory[1])
  }

  private func features(_ name: String, _ rows: Range<Int>) -> Tensor<Float> {
    let tensor = Tensor<Float>(Shape(rows.count, studentWidth))
    fill(tensor, name, rows)
    return tensor
  }

  private func fill(_ tensor: Tensor<Float>, _ name: String, _ rows: Range<Int>) {
    var random = KeyedRandom(seed: 0, purpose: name, UInt64(rows.lowerBound))
    for index in 0..<tensor.count { tensor[index] = Float(random.uniform(-1, 1)) }
  }
}
