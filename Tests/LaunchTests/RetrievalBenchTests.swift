import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// The ranking of distributed embeddings, whose candidates come in tiles, compared with plain sorting. The embeddings
/// of `kinship bench retrieval` are whole numbers, many of whose scores are equal.
@Suite struct RetrievalBenchTests {
  private struct Report: Decodable {
    let ranks, images, captions: Int
    let imageToText, textToImage: Figures
    let peakMib, baseMib, predictedMib: Double

    /// The figures by the names that they have in evaluations.
    struct Figures: Decodable, Equatable {
      let queries, candidates: Int
      let hits1, hits5, hits10: Int
      let median, mean, reciprocal: Double

      enum CodingKeys: String, CodingKey {
        case queries, candidates
        case hits1 = "hits@1"
        case hits5 = "hits@5"
        case hits10 = "hits@10"
        case median = "median_rank"
        case mean = "mean_rank"
        case reciprocal = "MRR"
      }
    }

    enum CodingKeys: String, CodingKey {
      case ranks, images, captions
      case imageToText = "image_to_text"
      case textToImage = "text_to_image"
      case peakMib = "peak_mib"
      case baseMib = "base_mib"
      case predictedMib = "predicted_mib"
    }
  }

  private func bench(_ images: Int, _ captionsPerImage: Int, tile: Int, ranks: Int) async throws -> Report {
    let run = try await MPIRun.kinship(
      [
        "bench", "retrieval", "--images", "\(images)", "--captions-per-image", "\(captionsPerImage)", "--width", "16",
        "--tile", "\(tile)",
      ], ranks: ranks)
    try #require(run.status == 0, "\(run)")
    let line = try #require(run.output.split(separator: "\n").last)
    return try JSONDecoder().decode(Report.self, from: Data(line.utf8))
  }

  /// Several captions an image, blocks of 256 queries and tiles that end within a rank's share, and fewer images than
  /// ranks.
  @Test(arguments: [(401, 3, 500), (300, 1, 77), (1, 1, 8), (2, 5, 4)])
  func figuresAreThoseOfASortedList(images: Int, captionsPerImage: Int, tile: Int) async throws {
    let width = 16
    let captions = images * captionsPerImage
    func values(_ fill: (Tensor<Float>) -> Void) -> [Int] {
      let row = Tensor<Float>(Shape(1, width))
      fill(row)
      return row.array.map { Int($0) }
    }
    let pictures = (0..<images).map { index in values { RetrievalBench.fill($0, image: index) } }
    let texts = (0..<captions).map { index in
      values { RetrievalBench.fill($0, caption: index, ofImage: index / captionsPerImage) }
    }
    /// Returns the places of the best answers among candidates that are sorted by score, and equal ones by number.
    func places(_ queries: [[Int]], _ candidates: [[Int]], _ isAnswer: (Int, Int) -> Bool) -> [Int] {
      queries.indices.map { query in
        let scores = candidates.map { zip($0, queries[query]).reduce(0) { $0 + $1.0 * $1.1 } }
        let best = candidates.indices.filter { isAnswer(query, $0) }.max { (scores[$0], $1) < (scores[$1], $0) } ?? 0
        return candidates.indices.count {
          !isAnswer(query, $0) && (scores[$0], best) > (scores[best], $0)
        }
      }
    }
    let toText = places(pictures, texts) { $0 == $1 / captionsPerImage }
    let toImage = places(texts, pictures) { $1 == $0 / captionsPerImage }
    if images > 100 { #expect(Set(toText).count > 20, "\(toText)") }
    for ranks in [1, 2, 3] {
      let report = try await bench(images, captionsPerImage, tile: tile, ranks: ranks)
      #expect(report.ranks == ranks && report.images == images && report.captions == captions)
      for (found, places, candidates) in [
        (report.imageToText, toText, captions), (report.textToImage, toImage, images),
      ] {
        #expect(found.queries == places.count && found.candidates == candidates)
        for (hits, k) in [(found.hits1, 1), (found.hits5, 5), (found.hits10, 10)] {
          #expect(hits == places.count { $0 < k }, "\(ranks) ranks, \(k)")
        }
        #expect(abs(found.mean - Double(places.reduce(0) { $0 + $1 + 1 }) / Double(places.count)) < 1e-9)
        let reciprocal = places.reduce(0) { $0 + 1 / Double($1 + 1) } / Double(places.count)
        #expect(abs(found.reciprocal - reciprocal) < 1e-12)
      }
      #expect(report.peakMib >= report.baseMib && report.predictedMib > 0)
    }
  }

  @Test func sizesThatAreRefused() async throws {
    for arguments in [["--images", "0"], ["--tile", "0"], ["--images", "10000000", "--captions-per-image", "9"]] {
      let run = try await MPIRun.kinship(["bench", "retrieval"] + arguments, ranks: nil)
      #expect(run.status == 64 && run.errors.contains("--captions-per-image"), "\(run)")
    }
  }
}
