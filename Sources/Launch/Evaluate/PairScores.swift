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
  private let file: OpenFile
  private var lines: [UInt8]
  private var means: [Float] = []
  private var samples = 0

  private init(_ file: OpenFile) {
    self.file = file
    lines = ScoreTable.line([ScoreTable.keyColumn] + PairScores.columns)
  }

  /// Writes and publishes the table to which `fill` adds the samples. Returns a summary for people: the number of
  /// samples, and quantiles of the means.
  static func write(to path: String, _ fill: (inout PairScoreFile) throws -> Void) throws -> String {
    let table: PairScoreFile = try Publish.creating(path) { temporary in
      var table = PairScoreFile(try OpenFile.creating(temporary))
      try fill(&table)
      try table.flush()
      return table
    }
    return table.summary(path)
  }

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

  private func summary(_ path: String) -> String {
    let without = samples - means.count
    var lines = [
      "\(path): \(Figures.count(samples, "sample"))"
        + (without == 0 ? "" : ", \(Figures.count(without, "sample")) without a caption")
    ]
    if !means.isEmpty {
      let sorted = means.sorted()
      let name = PairScores.columns[0]
      func mean(_ place: Int) -> String { Figures.fixed(Double(sorted[place]), 4) }
      lines.append("\(name) from \(mean(0)) to \(mean(sorted.count - 1))")
      lines += stride(from: 10, through: 90, by: 10).map { share in
        "  \(name)>=\(mean(sorted.count * share / 100)) keeps about \(100 - share) %"
      }
    }
    return lines.joined(separator: "\n")
  }
}
