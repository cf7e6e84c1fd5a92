import Dist
import Model
import Tensor

/// Made-up pictures and captions of some rows of a batch: functions of the row.
struct BenchInput {
  /// [b, 3, size, size].
  let images: Tensor<Float>
  let captions: [[Int32]]

  /// A preset's sizes, after a look at whether captions of so many tokens fit.
  static func config(_ preset: String, captionTokens: Int) throws -> CLIPConfig {
    var config = try CLIPConfig(preset: preset)
    // A preset that takes its words from a run's vocabulary has none here: CLIP's number of them will do.
    if config.text.vocabularySize == 0 { config.text.vocabularySize = 49408 }
    guard captionTokens <= config.text.contextLength else {
      throw ModelError(
        description:
          "--caption-tokens \(captionTokens) is more than the \(config.text.contextLength) of \(preset)'s context")
    }
    return config
  }

  init(_ config: CLIPConfig, rows: Range<Int>, tokens: Int) {
    let size = config.vision.imageSize
    images = Tensor<Float>(Shape(rows.count, 3, size, size))
    var random = KeyedRandom(seed: 0, purpose: "bench pictures", UInt64(rows.lowerBound))
    for index in 0..<images.count { images[index] = Float(random.uniform(-2, 2)) }
    captions = rows.map { row in
      var random = KeyedRandom(seed: 0, purpose: "bench captions", UInt64(row))
      let end = config.text.vocabularySize - 1
      let words = (0..<max(tokens - 2, 0)).map { _ in Int32(1 + random.below(end - 2)) }
      return [Int32(end - 1)] + words + [Int32(end)]
    }
  }
}

extension MatrixRoof {
  /// The mean over the ranks, which measure at the same time.
  func meanRate(over communicator: Communicator) throws -> Double {
    try communicator.barrier()
    var rate = [rate(seconds: 0.05)]
    try communicator.sum(&rate)
    return rate[0] / Double(communicator.size)
  }
}
