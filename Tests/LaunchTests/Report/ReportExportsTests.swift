import Foundation
import TestSupport
import Testing

@testable import Launch

/// Reports show the figures of a run's exported forms if the run's folder has them.
@Suite struct ReportExportsTests {
  let folder: TemporaryFolder
  private var run: String { folder.path("run") }
  private var file: String { folder.path("run/exports.json") }

  init() throws {
    folder = try TemporaryFolder()
    try folder.write("run/log.jsonl", #"{"event":"start","step":0,"ranks":1}"#.utf8)
  }

  /// Three forms, of which one has a single accuracy, and a name with markup.
  static let sound = """
    {"schema": "kinship/exports/1", "run": "mine", "step": 1200, "time": "2026-12-01T10:00:00Z",
     "processor": "Some & CPU", "cores": 4, "image_size": 64, "caption_tokens": 16, "batch": 32, "forms": [
      {"name": "Kinship fp32", "teacher": false, "program": "Kinship 0.1.0", "bytes": 17825792,
       "peak_bytes": 104857600, "image_ms": {"median": 2.5, "p99": 3.25, "repetitions": 200},
       "caption_ms": {"median": 0.5, "p99": 0.75, "repetitions": 200}, "images_per_s": 1500, "captions_per_s": 4000.0,
       "accuracy": {"retrieval val": {"i2t R@1": 0.5, "t2i R@1": 0.25}, "zero-shot val": {"top-1": 0.375}}},
      {"name": "ONNX <int8>", "teacher": false, "program": "onnxruntime 1.20.1", "bytes": 4456448,
       "peak_bytes": 83886080, "image_ms": {"median": 1.5, "p99": 1.75, "repetitions": 200},
       "caption_ms": {"median": 1.25, "p99": 2.0, "repetitions": 200}, "images_per_s": 2500.5, "captions_per_s": 3000,
       "accuracy": {"retrieval val": {"i2t R@1": 0.4375}}},
      {"name": "teacher big", "teacher": true, "program": "Kinship 0.1.0", "bytes": 357564416,
       "peak_bytes": 838860800, "image_ms": {"median": 90, "p99": 95.5, "repetitions": 200},
       "caption_ms": {"median": 30, "p99": 31, "repetitions": 200}, "images_per_s": 32.5, "captions_per_s": 90,
       "accuracy": {"retrieval val": {"i2t R@1": 0.75, "t2i R@1": 0.625}, "zero-shot val": {"top-1": 0.5}}}]}

    """

  private func report(_ options: [String] = []) async throws -> MPIRun {
    try await MPIRun.kinship(["report", run, "--examples", "0"] + options, ranks: nil)
  }

  private func page(_ options: [String] = []) async throws -> String {
    let written = try await report(options)
    try #require(written.status == 0, "\(written)")
    return try text("run/report.html")
  }

  private func text(_ name: String) throws -> String {
    try String(contentsOf: URL(filePath: folder.path(name)), encoding: .utf8)
  }

  @Test func tableAndPlot() async throws {
    let source = try folder.write("measured.json", Self.sound.utf8)
    let page = try await page(["--exports", source])
    #expect(ReportTests.outsideReferences(page) == [] && ReportTests.unbalanced(page) == [])
    for text in [
      "<h2 id=\"exports\">Exported forms</h2>", "<th scope=\"row\">ONNX &lt;int8&gt;</th>",
      "R@1, caption → image (retrieval val)", "<td class=\"figure\">2.5 (3.25)</td>", "mine after step 1,200",
      "measured on Some &amp; CPU at 2026-12-01T10:00:00Z with Kinship 0.1.0, onnxruntime 1.20.1.", "on 4 cores",
      "zero-shot val; latencies logarithmic", "43.8 % at 1.5 ms", "ms for one caption on one core",
    ] { #expect(page.contains(text), "\(text)") }
    // Three forms have R@1 of captions, two R@1 of images and top-1; the teacher is a ring.
    #expect(page.matches(of: #/<circle class="point/#).count == 7)
    #expect(page.matches(of: #/<circle class="point hollow c2"/#).count == 3)

    let table = try text("run/exports.md").split(separator: "\n")
    let row = "| Kinship fp32 | 17 MiB | 100 MiB | 2.5 (3.25) | 0.5 (0.75) | 1,500 | 4,000 | 50.0 % | 25.0 % | 37.5 % |"
    #expect(table[2] == row)
    #expect(table[3].hasPrefix("| ONNX \\<int8\\> | 4.2 MiB |") && table[3].hasSuffix("| 43.8 % | – | – |"))
    #expect(table.count == 6 && table[0].hasPrefix("| form | on disk | memory | one image, ms (p99) |"))
    #expect(table.prefix(5).allSatisfy { $0.count { $0 == "|" } == 11 })
    let count = "import sys, xml.dom.minidom as xml; print(len(xml.parse(sys.argv[1]).getElementsByTagName('g')))"
    let parsed = try await MPIRun.execute(["python3", "-c", count, folder.path("run/exports.svg")])
    // Each of the three charts is a group with another one in it.
    #expect(parsed.status == 0 && parsed.output == "6\n", "\(parsed)")

    // What was taken is what is read the next time.
    #expect(try ExportFigures(source) == ExportFigures(file))
    #expect(try await self.page().contains("<h2 id=\"exports\">"))
    let pair = folder.path("pair.html")
    let both = try await MPIRun.kinship(["report", run, run, "--output", pair], ranks: nil)
    try #require(both.status == 0, "\(both)")
    #expect(try text("pair.html").matches(of: #/<circle class="point/#).count == 14)
  }

  /// Without accuracies the plot shows latencies.
  @Test func withoutAccuracies() async throws {
    let bare = Self.sound.replacing(#/"accuracy": \{.*\}\}/#) { _ in "\"accuracy\": {}}" }
    let source = try folder.write("measured.json", bare.utf8)
    try #require(try ExportFigures(source).forms.allSatisfy { $0.accuracy.isEmpty })
    let page = try await page(["--exports", source])
    #expect(page.contains("Exported forms") && !page.contains("<circle class=\"point"))
    #expect(try text("run/exports.svg").contains("no evaluation of the run has an accuracy"))
  }

  @Test func absent() async throws {
    #expect(try await !page().contains("Exported forms"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: run).sorted() == ["log.jsonl", "report.html"])
  }

  @Test(arguments: [
    ("{\"schema\"", "{schema", "exports"), ("exports/1", "exports/2", "its schema is “kinship/exports/2”"),
    ("\"batch\": 32, ", "", "batch"), ("\"p99\": 3.25", "\"p99\": 1", "its 99th percentile is below its median"),
    ("\"median\": 0.5", "\"median\": 0", "is not above 0"), ("1500", "-1500", "a rate of “Kinship fp32”"),
    ("0.375", "1.5", "is not a share of 0 to 1"), ("4000.0", "NaN", "exports"), ("17825792", "0", "has no bytes"),
    ("17825792", "1e300", "exports"), ("teacher big", "Kinship fp32", "two forms have the same name"),
    ("\"cores\": 4", "\"cores\": 0", "at least 1"), ("\"name\": \"teacher big\"", "\"name\": \"\"", "has no name"),
  ])
  func malformed(old: String, new: String, words: String) async throws {
    let text = Self.sound.replacing(old, with: new)
    try #require(text != Self.sound)
    try folder.write("run/exports.json", text.utf8)
    let refused = try await report()
    #expect(refused.status == 65 && refused.errors.contains(file) && refused.errors.contains(words), "\(refused)")
    #expect(refused.errors.contains("measure them again with scripts/bench export RUN"))
    #expect(!FileManager.default.fileExists(atPath: folder.path("run/report.html")))
    // Sound figures replace them.
    let source = try folder.write("measured.json", Self.sound.utf8)
    #expect(try await page(["--exports", source]).contains("Exported forms"))
  }

  @Test func refusals() async throws {
    let bad = try folder.write("bad.json", "[]".utf8)
    let refused = try await report(["--exports", bad])
    #expect(refused.status == 65 && refused.errors.contains(bad), "\(refused)")
    let none = try await report(["--exports", folder.path("none.json")])
    #expect(none.status == 74 && none.errors.contains("none.json"), "\(none)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: run) == ["log.jsonl"])
    let source = try folder.write("measured.json", Self.sound.utf8)
    try FileManager.default.createDirectory(atPath: folder.path("other"), withIntermediateDirectories: true)
    let other = try await MPIRun.kinship(["report", folder.path("other"), "--exports", source], ranks: nil)
    #expect(other.status == 74 && other.errors.contains("expected the folder of a run"), "\(other)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path("other")) == [])
    let two = try await MPIRun.kinship(["report", run, run, "--exports", source], ranks: nil)
    #expect(two.status == 64 && two.errors.contains("--exports belong to the report of one run"), "\(two)")
  }
}
