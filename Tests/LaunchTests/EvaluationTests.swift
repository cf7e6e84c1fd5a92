import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// Compares `kinship evaluate` with embeddings that are computed one at a time and sorted plainly.
@Suite struct EvaluationTests {
  func evaluate<Figures: Decodable>(
    _ scene: EvaluationScene, _ arguments: [String], ranks: Int?, as _: Figures.Type
  ) async throws -> Figures {
    let json = scene.folder.path("figures.json")
    let run = try await MPIRun.kinship(
      ["evaluate"] + arguments + scene.source + ["--dataset", scene.dataset, "--json", json], ranks: ranks)
    try #require(run.status == 0, "\(run)")
    return try JSONDecoder().decode(Figures.self, from: Data(contentsOf: URL(filePath: json)))
  }

  @Test func retrievalIsTheSameOnAnyNumberOfRanks() async throws {
    let scene = try EvaluationScene(count: 150)
    let alone = try await evaluate(scene, ["retrieval"], ranks: nil, as: RetrievalFigures.self)
    for ranks in [1, 2, 3] {
      #expect(try await evaluate(scene, ["retrieval"], ranks: ranks, as: RetrievalFigures.self) == alone)
    }
    let images = try scene.samples.map { try scene.embedding(image: $0.image) }
    let texts = scene.samples.flatMap(\.captions)
    let captions = texts.map(scene.embedding(text:))
    #expect(alone.images == 150)
    #expect(alone.captions == texts.count)
    for (k, toText, toImage) in [
      (1, alone.imageToText.recall1, alone.textToImage.recall1),
      (5, alone.imageToText.recall5, alone.textToImage.recall5),
      (10, alone.imageToText.recall10, alone.textToImage.recall10),
    ] {
      #expect(
        toText == scene.recall(images, captions, at: k) { scene.samples[$0].captions.contains(texts[$1]) })
      #expect(
        toImage == scene.recall(captions, images, at: k) { scene.samples[$1].captions.contains(texts[$0]) })
    }
    func meanReciprocal(_ places: [Int]) -> Double {
      places.reduce(0) { $0 + 1 / Double($1 + 1) } / Double(places.count)
    }
    let toText = scene.places(images, captions) { scene.samples[$0].captions.contains(texts[$1]) }
    let toImage = scene.places(captions, images) { scene.samples[$1].captions.contains(texts[$0]) }
    #expect(abs(alone.imageToText.meanReciprocal - meanReciprocal(toText)) < 1e-12)
    #expect(abs(alone.textToImage.meanReciprocal - meanReciprocal(toImage)) < 1e-12)
  }

  @Test func theLinesForPeople() throws {
    var counts = PlaceCounts(candidates: 20)
    counts.add([0, 1, 3, 19])
    let figures = RetrievalFigures(
      dataset: "scene", images: 4, captions: 20, captionsTaken: .all, candidates: .captions, duplicates: .hits,
      imageToText: Recall(counts), textToImage: Recall(counts))
    let line = "R@1 25.00 %  R@5 75.00 %  R@10 75.00 %  MRR 45.00 %  median rank 3 of 20"
    #expect(figures.lines.dropFirst() == ["  image to caption  \(line)", "  caption to image  \(line)"])
    #expect(RetrievalFigures.names.suffix(2) == ["t2i R@10", "t2i MRR"] && figures.values[3] == 0.45)
    // A script that is run by hand reads them by the names that they have in files.
    let script = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "scripts/peer_parts/exported_retrieval.py")
    let text = try String(contentsOf: script, encoding: .utf8)
    let read = text.matches(of: /figures\["([a-z_]+)"\]/).map { String($0.1) }
    let written = try JSONSerialization.jsonObject(with: JSONEncoder().encode(figures)) as? [String: Any]
    #expect(!read.isEmpty && read.allSatisfy { written?[$0] != nil }, "\(read)")
  }

  @Test func distinctCaptionsCountOnce() async throws {
    let scene = try EvaluationScene(count: 90)
    let found = try await evaluate(
      scene, ["retrieval", "--candidates", "distinct-captions"], ranks: 2, as: RetrievalFigures.self)
    let texts = Array(Set(scene.samples.flatMap(\.captions)))
    let images = try scene.samples.map { try scene.embedding(image: $0.image) }
    let captions = texts.map(scene.embedding(text:))
    #expect(found.captions == texts.count)
    #expect(found.imageToText.candidates == texts.count)
    #expect(found.textToImage.queries == texts.count)
    #expect(
      found.imageToText.recall5
        == scene.recall(images, captions, at: 5) { scene.samples[$0].captions.contains(texts[$1]) })
    #expect(
      found.textToImage.recall1
        == scene.recall(captions, images, at: 1) { scene.samples[$1].captions.contains(texts[$0]) })
  }

  @Test func zeroShotIsTheSameOnAnyNumberOfRanks() async throws {
    let scene = try EvaluationScene(count: 150)
    let templates = ["{}", "old {} new", "round {} of {}"]
    let chosen = [1, 2, 3, 5]
    try scene.folder.write("templates.txt", templates.joined(separator: "\n").utf8)
    try scene.folder.write(
      "subset.txt", (chosen.map { EvaluationScene.classes[$0] } + [""]).joined(separator: "\r\n").utf8)
    let options = ["zero-shot", "--templates", scene.folder.path("templates.txt")]
    for (classes, more) in [
      (Array(EvaluationScene.classes.indices), [String]()), (chosen, ["--subset", scene.folder.path("subset.txt")]),
    ] {
      let alone = try await evaluate(scene, options + more, ranks: nil, as: ZeroShotFigures.self)
      for ranks in [2, 3] {
        #expect(try await evaluate(scene, options + more, ranks: ranks, as: ZeroShotFigures.self) == alone)
      }
      let asked = scene.samples.filter { $0.label.map(classes.contains) ?? false }
      let images = try asked.map { try scene.embedding(image: $0.image) }
      let rows = classes.map { index in
        let units = templates.map {
          scene.embedding(text: $0.replacing("{}", with: EvaluationScene.classes[index]))
        }
        return scene.unit(units.reduce([Double](repeating: 0, count: 16)) { sum, unit in zip(sum, unit).map(+) })
      }
      #expect(alone.images == asked.count)
      #expect(alone.classes == classes.count)
      #expect(alone.ofClasses == 6)
      #expect(alone.templates == 3)
      #expect(alone.top1 == scene.recall(images, rows, at: 1) { asked[$0].label == classes[$1] })
      #expect(alone.top5 == scene.recall(images, rows, at: 5) { asked[$0].label == classes[$1] })
    }
    // A launcher gives standard input to rank 0 alone.
    let input = ["bash", "-c", "exec \"$@\" <\"$0\"", scene.folder.path("subset.txt")]
    let launcher = ["mpirun", "--oversubscribe", "-n", "2", try MPIRun.path(of: "kinship"), "evaluate"]
    let run = try await MPIRun.execute(
      input + launcher + options + ["--subset", "-", "--dataset", scene.dataset] + scene.source, ranks: 2)
    #expect(run.status == 0 && run.output.contains("4 of 6 classes"), "\(run)")
  }
}
