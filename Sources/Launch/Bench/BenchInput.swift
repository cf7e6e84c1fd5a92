import Dist
import Model
import Tensor

/// Synthetic images and captions of this rank's rows of a global batch: functions of the row.
struct BenchInput {
  /// [b, 3, size, size].
  let images: Tensor<Float>
  let captions: [[Int32]]
  /// This rank's rows of the global batch.
  let rows: Range<Int>
  /// The global batch.
  let count: Int

  /// Returns a preset's sizes, after checking that captions of the given length fit.
  static func config(_ preset: String, captionTokens: Int) throws -> CLIPConfig {
    var config = try CLIPConfig(preset: preset)
    // A preset that takes its size from a run's vocabulary has none here; CLIP's size is assumed.
    if config.text.vocabularySize == 0 { config.text.vocabularySize = 49408 }
    guard captionTokens <= config.text.contextLength else {
      throw UserError(
        nil, "--caption-tokens \(captionTokens) is more than the \(config.text.contextLength) of \(preset)'s context")
    }
    return config
  }

  /// - Parameters:
  ///   - batch: the pairs of each rank.
  ///   - tokens: the tokens of each caption, including both ends.
  init(_ config: CLIPConfig, batch: Int, tokens: Int, over communicator: Communicator) {
    count = batch * communicator.size
    rows = communicator.slice(of: count)
    let size = config.vision.imageSize
    images = Tensor<Float>(Shape(rows.count, 3, size, size))
    images.fillUniform(-2..<2, purpose: "bench pictures", UInt64(rows.lowerBound))
    captions = rows.map { row in
      var random = KeyedRandom(seed: 0, purpose: "bench captions", UInt64(row))
      let end = config.text.vocabularySize - 1
      let words = (0..<max(tokens - 2, 0)).map { _ in Int32(1 + random.below(end - 2)) }
      return [Int32(end - 1)] + words + [Int32(end)]
    }
  }

  /// Trains one step on these captions, and on these images unless others are given.
  func train(
    _ step: Step<Float>, images other: Tensor<Float>? = nil, teacherScale: Float? = nil
  ) throws -> StepOutcome {
    let batch = StepBatch(
      images: other ?? images, captions: captions, rows: rows, count: count, teacherScale: teacherScale)
    return try step.run(batch, learningRate: 1e-4)
  }

  /// Returns `32 pairs a rank on 2 ranks of 1 thread, BLAS SkylakeX`, for headings.
  static func setting(_ batch: Int, _ communicator: Communicator) -> String {
    "\(batch) pairs a rank on \(communicator.size) ranks of \(Figures.count(Threads.count, "thread")), "
      + "BLAS \(BLAS.kernel)"
  }
}

extension Tensor<Float> {
  /// Fills the tensor with random numbers of a range, which depend on `purpose` and `key`.
  func fillUniform(_ range: Range<Double>, seed: UInt64 = 0, purpose: String, _ key: UInt64 = 0) {
    var random = KeyedRandom(seed: seed, purpose: purpose, key)
    for index in 0..<count { self[index] = Float(random.uniform(from: range.lowerBound, to: range.upperBound)) }
  }
}
