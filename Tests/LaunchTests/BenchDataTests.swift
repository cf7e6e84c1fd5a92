import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// Tests the output of `kinship bench data`, with synthetic images and with a dataset.
@Suite struct BenchDataTests {
  static let quick = [
    "--seconds", "0.05", "--steps", "3", "--batch", "4", "--caption-tokens", "5", "--feed-side", "40",
  ]

  private func report(_ arguments: [String], ranks: Int) async throws -> (DataBench.Report, MPIRun) {
    let run = try await MPIRun.kinship(["bench", "data"] + Self.quick + arguments, ranks: ranks)
    try #require(run.status == 0, "\(run)")
    let line = try #require(run.output.split(separator: "\n").last)
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return (try decoder.decode(DataBench.Report.self, from: Data(line.utf8)), run)
  }

  @Test(arguments: [1, 2]) func madeImages(ranks: Int) async throws {
    let (report, run) = try await report(["--sides", "24", "60", "--images", "2", "--crop", "32"], ranks: ranks)
    #expect(report.ranks == ranks && report.crop == 32 && report.dataset == nil && !report.scaledDct)
    #expect(report.images.map(\.side) == [24, 24, 24, 60, 60, 60])
    #expect(report.images.map(\.format) == [.jpeg, .png, .webp, .jpeg, .png, .webp])
    for rate in report.images {
      #expect(rate.images == 2 && rate.trainingPerS > 0 && rate.evaluationPerS > 0 && rate.kib > 0)
    }
    // The table has a heading, and a line for each kind.
    #expect(run.output.split(separator: "\n").count { $0.hasPrefix("JPEG") || $0.hasPrefix("PNG") } == 4)
    let feed = report.feed
    #expect(feed.model == "ViT-64-T-16" && feed.batch == 4 && feed.ranks == ranks && feed.loaders >= 1)
    #expect(feed.neededPerS > 0 && feed.givenPerS > 0 && feed.fedPerS > 0)
    #expect(0..<1 ~= feed.waitShare && feed.fed == (feed.waitShare < FeedBench.waitLimit))
  }

  /// The speed depends on the machine's other work: only the benchmark reports it.
  @Test func scaledDecoding() async throws {
    let (report, _) = try await report(
      ["--formats", "jpeg", "--sides", "512", "--images", "2", "--crop", "32", "--scaled-dct"], ranks: 1)
    #expect(report.scaledDct && report.images.count == 1 && report.images[0].trainingPerS > 0)
  }

  @Test func imagesOfADataset() async throws {
    let scene = try await TrainScene()
    let (report, _) = try await report(["--dataset", scene.dataset, "--images", "10"], ranks: 1)
    let rate = try #require(report.images.first)
    #expect(report.images.count == 1 && rate.format == .png && rate.side == 64 && rate.images == 10)
    #expect(report.dataset == scene.dataset)
  }

  /// The images have the detail of photographs: less than noise, whose JPEGs take more than 5 bits per pixel, and more
  /// than a plain wall.
  @Test func madeImagesHaveDetail() throws {
    let sets = try ImageSet.made([.jpeg, .png], sides: [256], count: 2)
    let bits = sets.map { $0.kibibytes * 1024 * 8 * 2 / Double($0.pixels) }
    #expect(0.8...3 ~= bits[0] && 6...22 ~= bits[1], "\(bits)")
    #expect(sets[0].files[0] != sets[0].files[1])
    let again = try ImageSet.made([.jpeg], sides: [256], count: 1)
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
    let absent = try await MPIRun.kinship(["bench", "data", "--dataset", "no/such/dataset"], ranks: nil)
    #expect(absent.status != 0 && absent.errors.contains("no/such/dataset"), "\(absent)")
  }
}
