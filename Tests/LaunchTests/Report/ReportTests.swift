import Foundation
import TestSupport
import Testing

@testable import Launch

/// Runs `kinship report` on runs of `kinship train`.
@Suite struct ReportTests {
  /// The parts of a page that could make a browser load something else. A report must have none.
  static func outsideReferences(_ page: String) -> [String] {
    let patterns = [
      #/(?i)\b(?:src|srcset|href|action|data|poster)\s*=\s*(?!["']?(?:data:|#))["']?[^"'\s>]*/#, #/(?i)url\([^)]*\)/#,
      #/(?i)@import[^;]*/#, #/(?i)@font-face/#, #/(?i)https?:[^\s<]*/#,
      #/<(?:iframe|object|embed|audio|video|form|base)\b/#, #/\b(?:fetch|XMLHttpRequest|WebSocket|import)\s*\(/#,
    ]
    return patterns.flatMap { page.matches(of: $0).map { String($0.output) } }
  }

  /// The elements that are not closed, or closed in the wrong order.
  static func unbalanced(_ page: String) -> [String] {
    let alone: Set<String> = ["meta", "link", "br", "img", "path"]
    var open: [String] = []
    var wrong: [String] = []
    for tag in page.matches(of: #/<(/?)([a-z][a-z0-9]*)(?:\s[^<>]*)?>/#) {
      let name = String(tag.2)
      if alone.contains(name), name != "path" || page[tag.range].hasSuffix("/>") { continue }
      if tag.1.isEmpty {
        open.append(name)
      } else if open.popLast() != name {
        wrong.append(String(page[tag.range]))
      }
    }
    return wrong + open
  }

  private func report(_ arguments: [String], ranks: Int? = nil) async throws -> MPIRun {
    try await MPIRun.kinship(["report"] + arguments, ranks: ranks)
  }

  private func page(_ path: String) throws -> String { try String(contentsOf: URL(filePath: path), encoding: .utf8) }

  @Test func aRunThatWasStoppedAndWentOn() async throws {
    let scene = try await TrainScene()
    let evaluate = "evaluate={every: 5, evaluations: [{kind: retrieval, dataset: \"\(scene.dataset)\"}]}"
    try await scene.train("again", ["steps=5", evaluate], ranks: 2)
    try await scene.train("again", ["steps=10", evaluate], ["--resume", "latest"], ranks: nil)
    let run = scene.runFolder("again").path
    let written = try await report([run])
    try #require(written.status == 0, "\(written)")
    #expect(written.output == "\(run)/report.html\n" && written.errors == "")
    let page = try page("\(run)/report.html")
    #expect(Self.outsideReferences(page) == [] && Self.unbalanced(page) == [])
    #expect(page.utf8.count < 200_000)
    for text in [
      "<h1>again</h1>", "all 10 steps done", ">loss</h4>", ">learning rate</h4>", ">logit scale</h4>",
      ">gradient norm</h4>", ">throughput</h4>", ">where time goes</h4>", "<h3>retrieval ", "image → caption", "R@10",
      "Predicted and measured", "memory of the rank that held most", "step-00000010", "Started again",
      "steps: 10, was 5",
      "1 on ", "BLAS kernel", "M parameters", "rate: 0.0005", "class=\"start\"",
    ] { #expect(page.contains(text), "\(text)") }
    #expect(page.matches(of: #/<svg /#).count == page.matches(of: #/role="img" aria-labelledby="chart-[0-9]+"/#).count)
    // Written again, the page replaces the old one, and no other file is left beside it.
    let files = try Set(FileManager.default.contentsOfDirectory(atPath: run))
    try #require(try await report([run]).status == 0)
    #expect(try Set(FileManager.default.contentsOfDirectory(atPath: run)) == files)
    #expect(!files.contains { $0.hasSuffix(".partial") })
    // Several ranks write it once.
    let other = scene.folder.path("page.html")
    let ranks = try await report([run + "/", "--output", other], ranks: 2)
    #expect(ranks.status == 0 && ranks.output == "\(other)\n", "\(ranks)")
    #expect(try self.page(other).contains("<h1>again</h1>"))
  }

  @Test func runsSideBySide() async throws {
    let scene = try await TrainScene()
    try await scene.train("slow", ["steps=4"], ranks: nil)
    try await scene.train("fast", ["steps=6", "optimizer.learning_rate=2e-3"], ranks: nil)
    let output = scene.folder.path("both.html")
    let runs = ["slow", "fast"].map { scene.runFolder($0).path }
    let written = try await report(runs + ["--output", output])
    try #require(written.status == 0, "\(written)")
    let page = try page(output)
    #expect(Self.outsideReferences(page) == [] && Self.unbalanced(page) == [])
    #expect(page.contains("<h1>2 runs: slow, fast</h1>"))
    for line in ["slow", "fast"] { #expect(page.matches(of: try Regex("data-name=\"\(line)\"")).count >= 5) }
    #expect(page.contains(#/<tr><th scope="row">state<\/th><td class="figure">all 4 steps[^<]*<\/td>/#))
    let rows = page.matches(
      of: #/<tr><th scope="row"><code>([a-z_.]+)</code></th><td>([^<]*)</td><td>([^<]*)</td></tr>/#)
    #expect(rows.map { "\($0.1) \($0.2) \($0.3)" } == ["optimizer.learning_rate 0.0005 0.002", "steps 4 6"])
    // Two folders hold runs of the same name.
    try FileManager.default.copyItem(atPath: runs[0], toPath: scene.folder.path("copy"))
    let twins = try await report([runs[0], scene.folder.path("copy"), "--output", output])
    try #require(twins.status == 0, "\(twins)")
    let both = try self.page(output)
    for path in [runs[0], scene.folder.path("copy")] {
      #expect(both.contains("data-name=\"slow (\(path))\""), "\(path)")
    }
    #expect(both.contains("All values of the run files are equal"))
  }

  /// Markup in a run's texts is shown as text and has no effect.
  @Test func hostileTexts() async throws {
    let folder = try TemporaryFolder()
    let hostile = #"</script><script>alert(1)</script><img src=x onerror='alert("2")'>"#
    let json = String(decoding: try JSONEncoder().encode(hostile), as: UTF8.self)
    let lines = [
      #"{"event":"start","step":0,"ranks":1,"changes":[\#(json)],"version":\#(json),"time":\#(json)}"#,
      #"{"event":"header","step":0,"facts":[{"name":\#(json),"text":\#(json)}]}"#,
      #"{"event":"step","step":1,"loss":2,"terms":{\#(json):1,"x":2},"anchors":{\#(json):{"divergence_mean":1}}}"#,
      #"{"event":"evaluation","step":1,"evaluation":\#(json),"figures":{\#(json):0.5,"top-1":0.25}}"#,
      #"{"event":"start","step":1,"changes":[\#(json)],"time":\#(json)}"#,
      #"{"event":"step","step":2,"loss":1,"terms":{\#(json):1,"x":2},"anchors":{\#(json):{"divergence_mean":1}}}"#,
      #"{"event":"checkpoint","step":1,"folder":\#(json)}"#, #"{"event":"note","step":1,"note":\#(json)}"#,
    ]
    try folder.write("run/log.jsonl", lines.joined(separator: "\n").utf8)
    try folder.write("run/run.yaml", "name: \(hostile)\n".utf8)
    let written = try await report([folder.path("run")])
    try #require(written.status == 0, "\(written)")
    let page = try page(folder.path("run/report.html"))
    #expect(!page.contains("<script>alert") && !page.contains("<img src=x"))
    #expect(page.matches(of: #/&lt;script&gt;alert\(1\)/#).count >= 10)
    #expect(Self.unbalanced(page) == [] && page.matches(of: #/<script>/#).count == 1)
  }

  /// A log of a hundred thousand lines makes a page of a few hundred kilobytes, which says what was wrong with the log.
  @Test func aLongLog() async throws {
    let folder = try TemporaryFolder()
    let count = 100_000
    var log = #"{"event":"start","step":0,"ranks":1,"changes":[],"time":"2026-01-01T00:00:00Z"}"# + "\n"
    for step in 1...count {
      let loss = step == 54_321 ? "\"nan\"" : step == 65_432 ? "777" : "\(Double(step * 7919 % 1000) / 1000 + 1)"
      log +=
        #"{"event":"step","step":\#(step),"steps":\#(count),"loss":\#(loss),"rate":1e-3,"gradient_norm":\#(step % 97)}"#
      log += step % 1000 == 0 ? "\n{}\n" : "\n"
    }
    try folder.write("run/log.jsonl", log.utf8)
    let written = try await report([folder.path("run")])
    try #require(written.status == 0, "\(written)")
    let page = try page(folder.path("run/report.html"))
    #expect(page.utf8.count < 300_000, "\(page.utf8.count)")
    #expect(
      page.contains("highest 777 at step 65,432, 1 not finite") && page.contains("not a finite number near step 54,"))
    #expect(page.contains("100 lines of 100,101 could not be understood and are left out; the first is line 1002."))
    #expect(page.contains("1 value not finite") && page.contains("run.yaml is not there"))
  }

  /// Very long names and texts are shortened, so that the page stays readable.
  @Test func longTexts() async throws {
    let folder = try TemporaryFolder()
    let long = String(repeating: "<é ", count: 200_000)
    var lines = [
      #"{"event":"start","step":0,"changes":["\#(long)","b"],"version":"\#(long)"}"#,
      #"{"event":"header","step":0,"facts":[{"name":"\#(long)","text":"x"},{"name":"y","text":"\#(long)"}]}"#,
      #"{"event":"step","step":1,"loss":2,"terms":{"\#(long)1":1,"x":3}}"#,
      #"{"event":"step","step":2,"loss":2,"terms":{"\#(long)2":1,"x":3}}"#,
      #"{"event":"evaluation","step":1,"evaluation":"\#(long)","figures":{"a":0.5}}"#,
      #"{"event":"checkpoint","step":1,"folder":"step-00000001\#(long)"}"#,
    ]
    lines += [String](repeating: #"{"event":"note","step":1,"note":"\#(long)"}"#, count: 30)
    try folder.write("run/log.jsonl", lines.joined(separator: "\n").utf8)
    let written = try await report([folder.path("run")])
    try #require(written.status == 0, "\(written)")
    let page = try page(folder.path("run/report.html"))
    #expect(page.utf8.count < 600_000, "\(page.utf8.count)")
    #expect(page.contains(">x</h4>") && page.contains("…") && Self.unbalanced(page) == [])
  }

  @Test func whatCannotBeReported() async throws {
    let folder = try TemporaryFolder()
    let missing = try await report([folder.path("nothing")])
    #expect(missing.status == 74 && missing.errors.contains("expected the folder of a run"), "\(missing)")
    try folder.write("empty/log.jsonl", [UInt8]())
    let empty = try await report([folder.path("empty")])
    #expect(empty.status == 65 && empty.errors.contains("log.jsonl is empty: the run has not begun"), "\(empty)")
    try folder.write("run/log.jsonl", #"{"event":"start","step":0,"ranks":1}"#.utf8)
    let unwritable = try await report([folder.path("run"), "--output", folder.path("no/page.html")])
    #expect(unwritable.status == 74 && unwritable.errors.contains("name another file with --output"), "\(unwritable)")
    #expect(try await report([]).status == 64)
    #expect(try await report([String](repeating: folder.path("run"), count: 13)).status == 64)
    // A run that has only begun has a page too.
    let begun = try await report([folder.path("run")])
    #expect(begun.status == 0, "\(begun)")
    #expect(try page(folder.path("run/report.html")).contains("no step has been logged yet"))
  }
}
