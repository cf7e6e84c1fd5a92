import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// `kinship dataset score`, and a dataset that is filtered by its table.
@Suite struct DatasetScoreTests {
  func score(_ scene: EvaluationScene, _ name: String, ranks: Int?, _ options: [String] = []) async throws -> MPIRun {
    try await MPIRun.kinship(
      ["dataset", "score", scene.dataset, "--output", scene.folder.path(name)] + scene.source + options, ranks: ranks)
  }

  /// Parts of one block, of which the last is not whole.
  @Test func theSameTableOnAnyNumberOfRanks() async throws {
    let scene = try EvaluationScene(count: 150)
    var tables: [String] = []
    for ranks in [nil, 2, 3] {
      let name = "\(ranks ?? 1).tsv"
      let run = try await score(scene, name, ranks: ranks, ["--part-samples", "64"])
      #expect(run.status == 0 && run.output.hasPrefix("\(scene.folder.path(name)): 150 samples\n"), "\(run)")
      #expect(run.output.contains("\nsimilarity from "), "\(run)")
      #expect(run.output.contains(/\n  similarity>=-?0\.[0-9]{4} keeps about 10 %\n/), "\(run)")
      tables.append(try String(contentsOfFile: scene.folder.path(name), encoding: .utf8))
      let files = try FileManager.default.contentsOfDirectory(atPath: scene.folder.url.path)
      #expect(files.contains(name) && !files.contains { $0.hasSuffix(".partial") }, "\(files)")
    }
    #expect(tables[0] == tables[1] && tables[0] == tables[2])

    let lines = tables[0].split(separator: "\n").map { $0.split(separator: "\t").map(String.init) }
    #expect(lines[0] == ["key", "similarity", "similarity_min", "similarity_max"] && lines.count == 151)
    var means: [Float] = []
    for (sample, line) in zip(scene.samples, lines.dropFirst()) {
      #expect(line[0] == sample.key)
      let image = try scene.embedding(image: sample.image)
      let cosines = sample.captions.map { caption in
        zip(image, scene.embedding(text: caption)).reduce(0) { $0 + $1.0 * $1.1 }
      }
      let expected = [
        cosines.reduce(0, +) / Double(cosines.count), cosines.min() ?? .nan, cosines.max() ?? .nan,
      ]
      let found = try line.dropFirst().map { try #require(Float($0)) }
      for (one, other) in zip(found, expected) { #expect(abs(Double(one) - other) < 1e-5) }
      means.append(found[0])
    }

    // The way back: the samples above the median, whose numbers read back exactly.
    let bound = means.sorted()[75]
    let run = try await MPIRun.kinship(
      [
        "dataset", "import", scene.dataset, "--scores", scene.folder.path("1.tsv"), "--keep", "similarity>\(bound)",
        "--output", scene.folder.path("kept"),
      ], ranks: nil)
    let kept = scene.samples.indices.filter { means[$0] > bound }
    #expect(run.status == 0 && run.output.contains("kept: \(kept.count) of 150 samples by --keep"), "\(run)")
    let dataset = try Dataset.open(scene.folder.path("kept"), check: .checksums)
    #expect((0..<dataset.count).map { dataset.key($0) } == kept.map { scene.samples[$0].key })
    for (place, index) in kept.enumerated() { #expect(try dataset.image(place) == scene.samples[index].image) }
  }

  @Test func samplesWithoutCaptions() async throws {
    let scene = try EvaluationScene(count: 2)
    var writer = try DatasetWriter(name: "mixed", folder: scene.folder.path("mixed"))
    for (number, captions) in [[], ["red cat"], []].enumerated() {
      try writer.append(DatasetSample(image: scene.samples[0].image, captions: captions, key: "\(number)"))
    }
    _ = try writer.finish()
    let output = scene.folder.path("mixed.tsv")
    let run = try await MPIRun.kinship(
      ["dataset", "score", scene.folder.path("mixed"), "--output", output] + scene.source, ranks: 2)
    #expect(run.status == 0 && run.output.contains("3 samples, 2 samples without a caption"), "\(run)")
    let lines = try String(contentsOfFile: output, encoding: .utf8).split(separator: "\n")
    #expect(lines.count == 4 && lines[1] == "0\t\t\t" && lines[3] == "2\t\t\t" && lines[2].hasPrefix("1\t"), "\(lines)")
    let kept = try await MPIRun.kinship(
      [
        "dataset", "import", scene.folder.path("mixed"), "--scores", output, "--keep", "similarity>-2", "--output",
        scene.folder.path("kept"),
      ], ranks: nil)
    let words = "kept: 1 of 3 samples by --keep; left out 2 without a number in similarity"
    #expect(kept.status == 0 && kept.output.contains(words), "\(kept)")
  }

  @Test func whatTheUserCanMend() async throws {
    let scene = try EvaluationScene(count: 1)
    var writer = try DatasetWriter(name: "silent", folder: scene.folder.path("silent"))
    try writer.append(DatasetSample(image: scene.samples[0].image, captions: [], key: "a"))
    _ = try writer.finish()
    try scene.folder.write("there.tsv", "mine".utf8)
    for (dataset, output, options, status, words) in [
      (scene.dataset, "there.tsv", scene.source, 64, "there.tsv: is there already; remove it"),
      (scene.folder.path("silent"), "o.tsv", scene.source, 65, "the dataset silent has no captions"),
      (scene.folder.path("gone"), "o.tsv", scene.source, 65, "does not exist"),
      (scene.dataset, "o.tsv", Array(scene.source.dropLast(2)), 64, "--vocabulary is needed"),
      (scene.dataset, "no/o.tsv", scene.source, 74, "cannot create"),
      (scene.dataset, "o.tsv", scene.source + ["--part-samples", "0"], 64, "--part-samples must be from 1"),
    ] {
      let run = try await MPIRun.kinship(
        ["dataset", "score", dataset, "--output", scene.folder.path(output)] + options, ranks: 2)
      #expect(run.status == status && run.errors.contains(words), "\(run)")
      #expect(!FileManager.default.fileExists(atPath: scene.folder.path("o.tsv")))
    }
    #expect(try String(contentsOfFile: scene.folder.path("there.tsv"), encoding: .utf8) == "mine")
  }
}
