import Foundation
import TestSupport
import Testing

/// `kinship train --trace`: what the ranks' files say of where time goes.
@Suite struct TraceTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  private struct Span {
    var name: String
    var kind: String
    var thread: Int
    var start: Double
    var end: Double

    func contains(_ other: Span) -> Bool { start <= other.start && other.end <= end }
  }

  /// The spans of a rank's file, and its threads by name.
  private func read(_ prefix: String, rank: Int) throws -> (spans: [Span], threads: [String: Int]) {
    let data = try Data(contentsOf: URL(filePath: "\(prefix).\(rank).json"))
    let events = try #require(try JSONSerialization.jsonObject(with: data) as? [[String: Any]])
    var (spans, threads): ([Span], [String: Int]) = ([], [:])
    for event in events {
      #expect(event["pid"] as? Int == rank)
      let (name, thread) = (try #require(event["name"] as? String), try #require(event["tid"] as? Int))
      if event["ph"] as? String == "M" {
        let text = try #require((event["args"] as? [String: String])?["name"])
        if name == "thread_name" { threads[text] = thread } else { #expect(text.hasPrefix("rank \(rank) on ")) }
        continue
      }
      #expect(event["ph"] as? String == "X")
      let (start, duration) = (try #require(event["ts"] as? Double), try #require(event["dur"] as? Double))
      #expect(duration >= 0)
      spans.append(
        Span(
          name: name, kind: try #require(event["cat"] as? String), thread: thread, start: start, end: start + duration))
    }
    return (spans, threads)
  }

  @Test(arguments: [true, false]) func whereTimeGoes(overlap: Bool) async throws {
    let prefix = scene.folder.path("trace")
    try await scene.train(
      "traced",
      [
        // A tower whose backward takes longer than a thread waits for a core.
        "model={embed_dim: 16, vision_cfg: {image_size: 96, patch_size: 8, width: 128, layers: 4, head_width: 32}, "
          + "text_cfg: {context_length: 8, vocab_size: 0, width: 32, heads: 2, layers: 2}}",
        "batch.global=23", "reduce.bucket=0.002", "reduce.overlap=\(overlap)", "steps=4", "reduce.check_every=2",
      ],
      ["--trace", prefix], ranks: 2)
    for rank in 0..<2 {
      let (spans, threads) = try read(prefix, rank: rank)
      let main = try #require(threads["main"])
      func named(_ name: String) -> [Span] { spans.filter { $0.name == name } }
      for name in ["data", "forward", "loss", "backward", "optimizer"] {
        #expect(named(name).count == 4 && named(name).allSatisfy { $0.thread == main }, "\(name)")
      }
      // The exchange of embeddings is part of the loss.
      for loss in named("loss") { #expect(spans.contains { $0.name == "allGather" && loss.contains($0) }) }
      let reductions = spans.filter { $0.name.hasPrefix("reduce bucket") }
      let gatherings = spans.filter { $0.name.hasPrefix("gather bucket") }
      #expect(reductions.count > 40 && reductions.count == gatherings.count)
      #expect((reductions + gatherings).allSatisfy { $0.kind == "communication" })
      #expect(reductions.contains { $0.name.hasSuffix("touched rows") })
      let thread = overlap ? try #require(threads["buckets"]) : main
      #expect((reductions + gatherings).allSatisfy { $0.thread == thread })
      #expect(!overlap || spans.contains { $0.kind == "wait" && $0.thread == main })
      #expect(named("write checkpoint 4").map(\.thread) == [try #require(threads["checkpoints"])])
      #expect(named("copy for a checkpoint").map(\.thread) == [main])
      let hidden = named("backward").filter { backward in
        reductions.contains { $0.start > backward.start && $0.start < backward.end }
      }
      #expect(hidden.isEmpty != overlap)
      for index in 0...(threads.values.max() ?? 0) {
        let ordered = spans.filter { $0.thread == index }.sorted { ($0.start, -$0.end) < ($1.start, -$1.end) }
        for (one, next) in zip(ordered, ordered.dropFirst()) {
          // Whole nanoseconds are written.
          #expect(next.start >= one.end - 0.002 || next.end <= one.end + 0.002, "\(one) \(next)")
        }
      }
    }
  }

  /// Killed without a word, each rank leaves a file that can be read.
  @Test func aKilledRunLeavesWholeFiles() async throws {
    let prefix = scene.folder.path("trace")
    let train = ["train", scene.runFile, "--set", "steps=1_000_000", "--trace", prefix]
    let script = """
      mpirun --oversubscribe -n 2 sh -c 'echo $$ >> "$0"; exec "$@"' "$PIDS" "$@" &
      "$AWAIT" lines "$LOG" 1 '"step":9,' --while $!
      kill -KILL $!; "$AWAIT" gone $(cat "$PIDS")
      """
    _ = try await MPIRun.execute(
      ["sh", "-c", script, "sh", try MPIRun.path(of: "kinship")] + train,
      [
        "LOG": scene.runFolder("tiny").appending(path: "log.jsonl").path, "PIDS": scene.folder.path("pids"),
        "AWAIT": try MPIRun.path(of: "Await"),
      ], ranks: 2)
    for rank in 0..<2 { #expect(try read(prefix, rank: rank).spans.count { $0.name == "backward" } >= 8) }
  }

  @Test func aPathThatCannotBeWritten() async throws {
    let run = try await scene.run(["steps=1"], ["--trace", "/nowhere/trace"], ranks: 2)
    #expect(run.status == 74, "\(run)")
    #expect(run.errors.contains("cannot create /nowhere/trace."), "\(run)")
  }
}
