import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// Tests that the figures of `kinship bench inference` are those of the model, not how fast it is.
@Suite struct InferenceBenchTests {
  let scene: EvaluationScene

  init() throws { scene = try EvaluationScene(count: 3) }

  private func bench(_ options: [String] = [], ranks: Int? = nil) async throws -> MPIRun {
    try await MPIRun.kinship(
      [
        "bench", "inference", "--checkpoint", scene.folder.path("model.safetensors"), "--model",
        scene.folder.path("model.json"), "--seconds", "0.05", "--repetitions", "30", "--batch", "5",
      ] + options, ranks: ranks)
  }

  private func report(_ options: [String] = []) async throws -> [String: Any] {
    let run = try await bench(options)
    try #require(run.status == 0, "\(run)")
    let line = try #require(run.output.split(separator: "\n").last)
    return try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
  }

  @Test func latencyAndThroughput() async throws {
    let report = try await report()
    for name in ["image_ms", "caption_ms"] {
      let found = try #require(report[name] as? [String: Any], "\(report)")
      let (median, p99) = (try #require(found["median"] as? Double), try #require(found["p99"] as? Double))
      #expect(median > 0 && p99 >= median && found["repetitions"] as? Int == 30, "\(found)")
    }
    #expect(report["parameters"] as? Int == scene.model.parameters.count)
    #expect(report["image_size"] as? Int == 16 && report["batch"] as? Int == 5)
    // The whole context of 8, which is shorter than 16.
    #expect(report["caption_tokens"] as? Int == 8)
    #expect(try #require(report["peak_bytes"] as? Int) > 4 * scene.model.parameters.count)
    #expect(try #require(report["images_per_s"] as? Double) > 0)
    #expect(try #require(report["captions_per_s"] as? Double) > 0)
    // The environment of tests limits programs to one thread.
    #expect(report["threads"] as? Int == 1 && report["processor"] as? String == Machine.processorName)
  }

  @Test func oneFigure() async throws {
    let latency = try await report(["--measure", "latency", "--caption-tokens", "3"])
    #expect(latency["image_ms"] != nil && latency["images_per_s"] == nil && latency["caption_tokens"] as? Int == 3)
    let throughput = try await report(["--measure", "throughput"])
    #expect(throughput["captions_per_s"] != nil && throughput["peak_bytes"] == nil && throughput["image_ms"] == nil)
  }

  @Test func refusals() async throws {
    for (options, words) in [
      (["--measure", "speed"], "--measure is latency or throughput, not speed"),
      (["--caption-tokens", "9"], "--caption-tokens 9 is more than the 8 of the context"),
      (["--caption-tokens", "1"], "--caption-tokens is at least 2"), (["--repetitions", "0"], "--repetitions is 1 to"),
      (["--seconds", "nan"], "--seconds more than 0"),
    ] {
      let run = try await bench(options)
      #expect(run.status == 64 && run.errors.contains(words), "\(run)")
    }
    let ranks = try await bench(ranks: 2)
    #expect(ranks.status == 64 && ranks.errors.contains("this job has 2 ranks; start it without mpirun"), "\(ranks)")
  }

  /// The 99th percentile is the least time that at least 99 in 100 do not exceed.
  @Test(arguments: [(1, 1, 1), (2, 2, 2), (99, 50, 99), (100, 51, 99), (101, 51, 100), (200, 101, 198)])
  func percentiles(count: Int, median: Int, p99: Int) {
    let latency = MeasuredLatency(seconds: (1...count).reversed().map { Double($0) / 1000 })
    #expect(abs(latency.median - Double(median)) < 1e-9 && abs(latency.p99 - Double(p99)) < 1e-9, "\(latency)")
    #expect(latency.repetitions == count)
  }
}
