import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// The paper's protocols through the program, on sets of the public layouts, against embeddings made one at a time.
@Suite struct PaperEvaluationTests {
  let scene: PaperScene

  init() throws { scene = try PaperScene() }

  /// The figures, which must be those of every number of ranks.
  func evaluate<Figures: Decodable & Equatable>(
    _ arguments: [String], on name: String, as _: Figures.Type
  ) async throws -> Figures {
    var found: Figures?
    for ranks in [nil, 2, 3] {
      let json = scene.folder.path("figures.json")
      let run = try await MPIRun.kinship(
        ["evaluate"] + arguments + scene.evaluation.source + ["--dataset", scene.dataset(name), "--json", json],
        ranks: ranks)
      try #require(run.status == 0, "\(run)")
      let figures = try JSONDecoder().decode(Figures.self, from: Data(contentsOf: URL(filePath: json)))
      #expect(found == nil || found == figures, "\(ranks ?? 1) ranks")
      found = figures
    }
    return try #require(found)
  }

  /// Class embeddings of all classes, slowly.
  func classRows(_ labels: [Int]) -> [[Double]] {
    labels.map { label in
      let units = PaperScene.templates.map {
        scene.evaluation.embedding(text: $0.replacing("{}", with: PaperScene.classes[label]))
      }
      return scene.evaluation.unit(zip(units[0], units[1]).map(+))
    }
  }

  var names: [String] {
    ["--classes", scene.folder.path("classes.txt"), "--templates", scene.folder.path("templates.txt")]
  }

  @Test(arguments: ["imagenet-r", "imagenet-v2"]) func zeroShot(name: String) async throws {
    try await scene.importSets([name])
    let dataset = try Dataset.open(scene.dataset(name))
    let labels = (0..<dataset.count).map { dataset.label($0) ?? -1 }
    let known = name == "imagenet-r" ? PaperScene.rendered : Array(0..<12)
    #expect(Set(labels) == Set(known))
    let images = try (0..<dataset.count).map { try scene.evaluation.embedding(image: dataset.image($0)) }
    let all = classRows(Array(0..<1000))
    for (options, chosen) in [([String](), Array(0..<1000)), (["--subset", "present"], known)] {
      let found = try await evaluate(["zero-shot"] + names + options, on: name, as: ZeroShotFigures.self)
      let rows = chosen.map { all[$0] }
      #expect(found.images == dataset.count && found.classes == chosen.count && found.ofClasses == 1000)
      for (k, share) in [(1, found.top1), (5, found.top5)] {
        #expect(share == scene.evaluation.recall(images, rows, at: k) { labels[$0] == chosen[$1] }, "top-\(k)")
      }
    }
  }

  @Test(arguments: [RetrievalEvaluation.Captions.first, .all], [RetrievalEvaluation.Duplicates.strict, .hits])
  func retrieval(
    captions: RetrievalEvaluation.Captions, duplicates: RetrievalEvaluation.Duplicates
  ) async throws {
    try await scene.importSets(["coco"])
    let dataset = try Dataset.open(scene.dataset("coco"))
    let count = captions == .first ? 1 : 5
    let texts = (0..<dataset.count).flatMap { dataset.captions($0).prefix(count) }
    #expect(dataset.count == 60 && texts.count == 60 * count)
    #expect(Set(texts).count < texts.count, "equal captions are what this is about")
    let images = try (0..<dataset.count).map { try scene.evaluation.embedding(image: dataset.image($0)) }
    let rows = texts.map(scene.evaluation.embedding(text:))
    let found = try await evaluate(
      ["retrieval", "--captions", captions.rawValue, "--duplicates", duplicates.rawValue], on: "coco",
      as: RetrievalFigures.self)
    #expect(found.captions == texts.count && found.captionsTaken == captions && found.duplicates == duplicates)
    func isPair(_ image: Int, _ text: Int) -> Bool {
      duplicates == .strict
        ? text / count == image : texts[image * count..<(image + 1) * count].contains(texts[text])
    }
    for (k, toText, toImage) in [
      (1, found.imageToText.recall1, found.textToImage.recall1),
      (5, found.imageToText.recall5, found.textToImage.recall5),
      (10, found.imageToText.recall10, found.textToImage.recall10),
    ] {
      let right = (recall(images, rows, at: k, isAnswer: isPair), recall(rows, images, at: k) { isPair($1, $0) })
      #expect(right.0.contains(toText), "I2T \(k)")
      #expect(right.1.contains(toImage), "T2I \(k)")
      // Images are all different, so that captions find theirs without a tie; nor is there one among hits.
      #expect(right.1.lowerBound == right.1.upperBound)
      if duplicates == .hits { #expect(right.0.lowerBound == right.0.upperBound) }
    }
  }

  /// The least and the most that recall can be: a wrong candidate with the right one's text scores as much, and which
  /// of them is first hangs on the last bit.
  func recall(
    _ queries: [[Double]], _ candidates: [[Double]], at k: Int, isAnswer: (Int, Int) -> Bool
  ) -> ClosedRange<Double> {
    var (least, most) = (0.0, 0.0)
    for query in queries.indices {
      let scores = candidates.map { zip($0, queries[query]).reduce(0) { $0 + $1.0 * $1.1 } }
      let best = candidates.indices.filter { isAnswer(query, $0) }.map { scores[$0] }.max() ?? -.infinity
      let others = candidates.indices.filter { !isAnswer(query, $0) }.map { scores[$0] }
      if others.count(where: { $0 >= best - 1e-9 }) < k { least += 1 }
      if others.count(where: { $0 > best + 1e-9 }) < k { most += 1 }
    }
    return least / Double(queries.count)...most / Double(queries.count)
  }

  @Test func equalCaptionsCannotBeBothOneAndTwo() async throws {
    let run = try await MPIRun.kinship(
      ["evaluate", "retrieval", "--candidates", "distinct-captions", "--duplicates", "strict", "--dataset", "c"]
        + scene.evaluation.source, ranks: 2)
    #expect(run.status == 64, "\(run)")
    #expect(run.errors.contains("leave one out"), "\(run)")
  }

  @Test func idsAreNoNames() async throws {
    try await scene.importSets(["imagenet-r"])
    let run = try await MPIRun.kinship(
      ["evaluate", "zero-shot", "--dataset", scene.dataset("imagenet-r")] + scene.evaluation.source, ranks: 2)
    #expect(run.status == 65, "\(run)")
    #expect(run.errors.contains("names its classes by WordNet ids (\(TestIDs.all[0]), …)"), "\(run)")
    #expect(run.errors.contains("--classes"))
  }

  /// Images with no file behind them are left out and listed; none at all is an error that names the option.
  @Test func imagesThatAreMissing() async throws {
    let list = scene.folder.path("public/dataset_coco.json")
    try FileManager.default.removeItem(atPath: scene.folder.path("public/val2014/COCO_val2014_0.jpg"))
    try FileManager.default.removeItem(atPath: scene.folder.path("public/val2014/COCO_val2014_5.jpg"))
    try await scene.importSets(["coco"])
    #expect(try Dataset.open(scene.dataset("coco")).count == 58)
    let rejected = try String(contentsOfFile: scene.dataset("coco") + "/rejected.tsv", encoding: .utf8)
    let lines = rejected.split(separator: "\n")
    #expect(lines.count == 3)
    #expect(
      lines[1].hasPrefix("images[0]\tval2014/COCO_val2014_0\t") && lines[1].hasSuffix("No such file or directory"))
    #expect(lines[2].hasPrefix("images[5]\tval2014/COCO_val2014_5\t"))
    let run = try await MPIRun.kinship(
      ["dataset", "import", list, "--split", "test", "--images", "/nowhere", "--output", scene.folder.path("none")],
      ranks: nil)
    #expect(run.status == 65, "\(run)")
    #expect(run.errors.contains("none of 60 images could be imported"), "\(run)")
    #expect(run.errors.contains("looked for in /nowhere: name their folder with --images"), "\(run)")
  }
}
