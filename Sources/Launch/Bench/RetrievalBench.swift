import Dist
import Foundation
import Model
import Tensor

/// Ranks made-up embeddings as an evaluation does, and measures time and memory.
///
/// Every element of an image is −1, 0 or 1, and that of its caption is the same with the probability `kept`, otherwise
/// another draw: all scores are whole numbers, which any order of summation gives exactly, and many of them are equal.
struct RetrievalBench {
  let images: Int
  let captionsPerImage: Int
  let width: Int
  /// The number of candidates in a tile.
  var tile = Ranking.tile
  static let kept = 0.125

  struct Report: Encodable {
    var ranks, images, captions, width, tile: Int
    var kernel: String
    var seconds: Double
    /// The rate of a rank's products in GFLOP/s, with each score once.
    var gflops: Double
    /// The most memory that a rank had resident, what was resident before the first embedding, and the estimate of the
    /// difference.
    var peakMib, baseMib, predictedMib: Double
    var imageToText, textToImage: Recall

    /// Written out, because `Recall` has the keys of evaluations, which no strategy may change.
    enum CodingKeys: String, CodingKey {
      case ranks, images, captions, width, tile, kernel, seconds, gflops
      case peakMib = "peak_mib"
      case baseMib = "base_mib"
      case predictedMib = "predicted_mib"
      case imageToText = "image_to_text"
      case textToImage = "text_to_image"
    }
  }

  func run(_ communicator: Communicator, log: (String) -> Void) throws -> Report {
    let captions = images * captionsPerImage
    let estimate = EvaluationEstimate(
      "made-up embeddings", images: images, captions: captions, width: width, ranks: communicator.size, tile: tile)
    try estimate.requireMemory(over: communicator)
    log(estimate.text)
    ProcessMemory.resetPeak()
    var memory = [0.0, ProcessMemory.peak]
    let pairs = RetrievalPairs(
      images: images, captionImage: (0..<captions).map { $0 / captionsPerImage }, captionText: Array(0..<captions))
    func rows(_ count: Int, _ fill: (Int, Tensor<Float>) -> Void) -> DistributedRows {
      // As blocks are dealt to the ranks that encode them.
      let blocks = communicator.slices(of: (count + BlockEncoder.height - 1) / BlockEncoder.height)
      let ranges = blocks.map {
        min($0.lowerBound * BlockEncoder.height, count)..<min($0.upperBound * BlockEncoder.height, count)
      }
      let own = ranges[communicator.rank]
      let rows = Tensor<Float>(Shape(own.count, width))
      for row in own { fill(row, rows.rows(row - own.lowerBound..<row - own.lowerBound + 1)) }
      return DistributedRows(rows, ranges: ranges, over: communicator)
    }
    let imageRows = rows(images) { Self.fill($1, image: $0) }
    let textRows = rows(captions) { Self.fill($1, caption: $0, ofImage: $0 / captionsPerImage) }
    try communicator.barrier()
    var places = (imageToText: PlaceCounts(candidates: 0), textToImage: PlaceCounts(candidates: 0))
    let seconds =
      try ContinuousClock().measure {
        places = try RetrievalRanking(pairs: pairs, tile: tile).places(images: imageRows, texts: textRows)
      } / .seconds(1)
    memory[0] = ProcessMemory.peak
    try communicator.allReduce(&memory, .maximum)
    let slowest = try communicator.allReduce(seconds, .maximum)
    let operations = 4 * Double(images) * Double(captions) * Double(width) / Double(communicator.size)
    let report = Report(
      ranks: communicator.size, images: images, captions: captions, width: width, tile: tile, kernel: BLAS.kernel,
      seconds: slowest, gflops: operations / slowest / 1e9, peakMib: memory[0], baseMib: memory[1],
      predictedMib: Double(estimate.bytes) / 1_048_576, imageToText: Recall(places.imageToText),
      textToImage: Recall(places.textToImage))
    log(
      "\(Figures.fixed(report.seconds, 1)) s on \(Figures.count(report.ranks, "rank")), "
        + "\(Figures.significant(report.gflops, 3)) GFLOP/s a rank, BLAS \(report.kernel); peak "
        + "\(Figures.fixed(report.peakMib, 0)) MiB of a rank, of which \(Figures.fixed(report.baseMib, 0)) MiB were "
        + "there before the first embedding")
    return report
  }

  /// Fills a row [1, d] with an image's embedding.
  static func fill(_ row: Tensor<Float>, image: Int) {
    var random = KeyedRandom(seed: 0, purpose: "image", UInt64(image))
    draw(&random, row.count) { row[$0] = $1 }
  }

  /// Fills a row [1, d] with a caption's embedding.
  static func fill(_ row: Tensor<Float>, caption: Int, ofImage image: Int) {
    fill(row, image: image)
    var random = KeyedRandom(seed: 0, purpose: "caption", UInt64(caption))
    let drawn = Tensor<Float>(Shape(row.count))
    draw(&random, row.count) { drawn[$0] = $1 }
    for column in 0..<row.count where random.uniform() >= kept { row[column] = drawn[column] }
  }

  /// Draws numbers of which half are 0, a quarter 1 and a quarter −1, 32 from each word of random bits.
  private static func draw(_ random: inout KeyedRandom, _ count: Int, _ put: (Int, Float) -> Void) {
    var bits: UInt64 = 0
    for at in 0..<count {
      if at % 32 == 0 { bits = random.next() }
      put(at, Float(bits & 1) - Float(bits >> 1 & 1))
      bits >>= 2
    }
  }
}
