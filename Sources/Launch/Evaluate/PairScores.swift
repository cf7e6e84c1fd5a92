import Dist
import Foundation
import Model
import Tensor

/// The cosines of a dataset's images with their captions by a model, for filters. The embeddings of a part of the
/// dataset at a time are in memory. Parts are whole blocks, so that the bits do not depend on the number of ranks.
struct PairScores {
  static let columns = ["similarity", "similarity_min", "similarity_max"]
  let dataset: Dataset
  let encoder: BlockEncoder
  /// The number of samples of a part.
  let part: Int

  /// Takes parts of at most `samples`, but at least one block.
  init(_ dataset: Dataset, by encoder: BlockEncoder, partSamples samples: Int) {
    (self.dataset, self.encoder) = (dataset, encoder)
    part = max(samples / BlockEncoder.height, 1) * BlockEncoder.height
  }

  /// The cosine of a sample's image with each of its captions; none without captions.
  struct Sample {
    let number: Int
    let cosines: [Double]

    /// The mean, the least and the largest cosine in single precision, in the order of `columns`. It is empty without
    /// captions.
    var values: [Float] {
      guard let least = cosines.min(), let largest = cosines.max() else { return [] }
      return [cosines.reduce(0, +) / Double(cosines.count), least, largest].map { Float($0) }
    }
  }

  /// Calls `each` on rank 0 with every sample in the dataset's order. Every rank must call it.
  func compute(_ each: (Sample) throws -> Void) throws {
    for first in stride(from: 0, to: dataset.count, by: part) {
      let samples = Array(first..<min(first + part, dataset.count))
      let texts = samples.flatMap { dataset.captions($0) }
      // Rank 0 alone receives the rows. `gather` is a collective, so both stand before the guard.
      let images = try encoder.images(of: dataset, samples: samples).gather(0..<samples.count)
      let captions = try encoder.texts(texts).gather(0..<texts.count)
      guard let images, let captions else { continue }
      var caption = 0
      for (row, number) in samples.enumerated() {
        let own = caption..<caption + dataset.captionCount(number)
        caption = own.upperBound
        let image = images.rows(row..<row + 1)
        try each(
          Sample(
            number: number,
            cosines: own.map { dot(image, captions.rows($0..<$0 + 1)) }))
      }
    }
  }
}

/// Writes the scores of a dataset's samples as a table that `kinship dataset import --scores` reads, and remembers
/// their means for a summary.
struct PairScoreFile {
  private let path: String
  private let file: OpenFile
  private var lines: [UInt8]
  private var means: [Float] = []
  private var samples = 0

  /// Begins the table under another name, so that a file with the final name is complete.
  init(_ path: String) throws {
    self.path = path
    try Publish.removeAll(Self.partial(path))
    file = try OpenFile.creating(Self.partial(path))
    lines = ScoreTable.line([ScoreTable.keyColumn] + PairScores.columns)
  }

  private static func partial(_ path: String) -> String { path + ".partial" }

  /// Adds the line of a sample, whose fields are empty if it has no captions.
  mutating func add(_ sample: PairScores.Sample, key: String) throws {
    let values = sample.values
    // Numbers in the shortest form that reads back exactly.
    let fields = values.isEmpty ? PairScores.columns.map { _ in "" } : values.map { "\($0)" }
    lines += ScoreTable.line([key] + fields)
    if let mean = values.first { means.append(mean) }
    samples += 1
    if lines.count > 1 << 20 { try flush() }
  }

  private mutating func flush() throws {
    try file.append(lines)
    lines.removeAll(keepingCapacity: true)
  }

  /// Publishes the table, and returns the number of samples and quantiles of the means, for people.
  mutating func finish() throws -> String {
    try flush()
    try file.sync()
    try Publish.rename(Self.partial(path), to: path)
    let without = samples - means.count
    var lines = [
      "\(path): \(Figures.count(samples, "sample"))"
        + (without == 0 ? "" : ", \(Figures.count(without, "sample")) without a caption")
    ]
    if !means.isEmpty {
      means.sort()
      let name = PairScores.columns[0]
      func mean(_ place: Int) -> String { Figures.fixed(Double(means[place]), 4) }
      lines.append("\(name) from \(mean(0)) to \(mean(means.count - 1))")
      lines += stride(from: 10, through: 90, by: 10).map { share in
        "  \(name)>=\(mean(means.count * share / 100)) keeps about \(100 - share) %"
      }
    }
    return lines.joined(separator: "\n")
  }
}
