import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// What `kinship bench data` prints, of pictures it makes and of a corpus.
@Suite(.serialized) struct BenchDataTests {
  static let quick = [
    "--seconds", "0.05", "--steps", "3", "--batch", "4", "--caption-tokens", "5", "--feed-side", "40",
  ]

  private func report(_ arguments: [String], ranks: Int) async throws -> (DataBench.Report, MPIRun) {
    let run = try await MPIRun.kinship(["bench", "data"] + Self.quick + arguments, ranks: ranks)
    try #require(run.status == 0, "\(run)")
    let line = try #require(run.output.split(separator: "\n").last)
    return (try JSONDecoder().decode(DataBench.Report.self, from: Data(line.utf8)), run)
  }

  @Test(arguments: [1, 2]) func madePictures(ranks: Int) async throws {
    let (report, run) = try await report(["--sides", "24", "60", "--pictures", "2", "--crop", "32"], ranks: ranks)
    #expect(report.ranks == ranks && report.crop == 32 && report.corpus == nil && !report.scaledDCT)
    #expect(report.pictures.map(\.side) == [24, 24, 24, 60, 60, 60])
    #expect(report.pictures.map(\.format) == [.jpeg, .png, .webp, .jpeg, .png, .webp])
    for rate in report.pictures {
      #expect(rate.pictures == 2 && rate.trainingPerSecond > 0 && rate.evaluationPerSecond > 0 && rate.kibibytes > 0)
    }
    // The table has a line for each, under its head.
    #expect(run.output.split(separator: "\n").count { $0.hasPrefix("JPEG") || $0.hasPrefix("PNG") } == 4)
    let feed = report.feed
    #expect(feed.model == "ViT-64-T-16" && feed.batch == 4 && feed.ranks == ranks && feed.loaders >= 1)
    #expect(feed.neededPerSecond > 0 && feed.givenPerSecond > 0 && feed.fedPerSecond > 0)
    #expect(0..<1 ~= feed.waitShare && feed.isFed == (feed.waitShare < FeedBench.waitLimit))
  }

  /// How fast that is depends on who else computes: the benchmark says it, no test.
  @Test func scaledDecoding() async throws {
    let (report, _) = try await report(
      ["--formats", "jpeg", "--sides", "512", "--pictures", "2", "--crop", "32", "--scaled-dct"], ranks: 1)
    #expect(report.scaledDCT && report.pictures.count == 1 && report.pictures[0].trainingPerSecond > 0)
  }

  @Test func picturesOfACorpus() async throws {
    let scene = try await TrainScene()
    let (report, _) = try await report(["--corpus", scene.corpus, "--pictures", "10"], ranks: 1)
    let rate = try #require(report.pictures.first)
    #expect(report.pictures.count == 1 && rate.format == .png && rate.side == 64 && rate.pictures == 10)
    #expect(report.corpus == scene.corpus)
  }

  /// The detail of photographs: neither noise, which a JPEG takes more than 5 bits a pixel for, nor a plain wall.
  @Test func madePicturesHaveDetail() throws {
    let sets = try PictureSet.made([.jpeg, .png], sides: [256], count: 2)
    let bits = sets.map { $0.kibibytes * 1024 * 8 * 2 / Double($0.pixels) }
    #expect(0.8...3 ~= bits[0] && 6...22 ~= bits[1], "\(bits)")
    #expect(sets[0].files[0] != sets[0].files[1])
    let again = try PictureSet.made([.jpeg], sides: [256], count: 1)
    #expect(again[0].files[0] == sets[0].files[0])
  }

  @Test func wrongOptions() async throws {
    for (wrong, reason) in [
      (["--formats", "gif"], "--formats has jpeg, png and webp, not gif"),
      (["--sides", "0"], "--sides and --feed-side"),
      (["--crop", "5000"], "--crop is 1 to 4096"), (["--batch", "0"], "--batch is at least 1"),
    ] {
      let run = try await MPIRun.kinship(["bench", "data"] + wrong, ranks: nil)
      #expect(run.status == 64 && run.errors.contains(reason), "\(run)")
    }
    let absent = try await MPIRun.kinship(["bench", "data", "--corpus", "no/such/corpus"], ranks: nil)
    #expect(absent.status != 0 && absent.errors.contains("no/such/corpus"), "\(absent)")
  }
}
