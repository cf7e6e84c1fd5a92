import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

@Suite(.serialized, .timeLimit(.minutes(3))) struct EmbedTests {
  @Test func writesTheSameEmbeddingsOnAnyNumberOfRanks() async throws {
    let scene = try EvaluationScene(count: 70)
    let captions = ["red cat", "an old house, and a dog"]
    let lines = try scene.folder.write("captions.txt", captions.joined(separator: "\n").utf8)
    var found: [[Float]] = []
    for ranks in [nil, 2, 3] {
      let output = scene.folder.path("\(ranks ?? 1).h5")
      let run = try await MPIRun.kinship(
        ["embed", "--corpus", scene.corpus, "--captions", lines, "--output", output] + scene.source, ranks: ranks)
      #expect(run.status == 0 && run.output == "/image: 70 × 16\n/text: 2 × 16\n", "\(run)")
      let file = try HDF5File.open(output)
      #expect(try file.dataset("image").shape == [70, 16] && file.dataset("text").shape == [2, 16])
      #expect(try file.attributes.string("corpus") == "scene")
      found.append(try file.dataset("image").read(Float.self) + file.dataset("text").read(Float.self))
    }
    #expect(found[0] == found[1] && found[0] == found[2])
    let expected =
      try scene.samples.flatMap { try scene.embedding(picture: $0.image) }
      + captions.flatMap { scene.embedding(text: $0) }
    #expect(found[0].count == expected.count)
    for (one, other) in zip(found[0], expected) { #expect(abs(Double(one) - other) < 1e-5) }
  }

  @Test func rawFeaturesAreThoseOfTheTower() async throws {
    let scene = try EvaluationScene(count: 3)
    let lines = try scene.folder.write("captions.txt", "blue house\n".utf8)
    let output = scene.folder.path("raw.h5")
    let arguments = ["embed", "--captions", lines, "--raw", "--output", output] + scene.source
    let run = try await MPIRun.kinship(arguments, ranks: nil)
    #expect(run.status == 0, "\(run)")
    let file = try HDF5File.open(output)
    #expect(try file.names() == ["text"])
    let raw = try file.dataset("text").read(Float.self).map(Double.init)
    #expect(raw.reduce(0) { $0 + $1 * $1 } > 1.01 || raw.reduce(0) { $0 + $1 * $1 } < 0.99)
    for (one, other) in zip(scene.unit(raw), scene.embedding(text: "blue house")) { #expect(abs(one - other) < 1e-5) }
    let again = try await MPIRun.kinship(arguments, ranks: nil)
    #expect(again.status == 64 && again.errors.contains("is there already"), "\(again)")
    let nothing = try await MPIRun.kinship(["embed", "--output", output] + scene.source, ranks: nil)
    #expect(nothing.status == 64 && nothing.errors.contains("nothing to embed"), "\(nothing)")
  }
}
