import Foundation
import TestSupport
import Testing

@testable import Launch

/// `scripts/evaluate-paper`: the row of the paper's table, over the sets that are there.
@Suite struct PaperTableTests {
  let scene: PaperScene
  let script = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts/evaluate-paper").path

  init() throws { scene = try PaperScene() }

  func table(_ arguments: [String], ranks: Int = 1) async throws -> MPIRun {
    try await MPIRun.execute(["bash", script] + arguments, ["KINSHIP": try MPIRun.path(of: "kinship")], ranks: ranks)
  }

  /// The script's arguments: everything but the ranks.
  var arguments: [String] {
    [
      scene.folder.path("model.safetensors"), scene.folder.path("data"), "--model", scene.folder.path("model.json"),
      "--vocabulary", scene.folder.path("vocabulary.txt.gz"), "--classes", scene.folder.path("classes.txt"),
      "--templates", scene.folder.path("templates.txt"),
    ]
  }

  /// The last lines, split into words.
  func rows(_ run: MPIRun, _ count: Int) -> [[String]] {
    run.output.split(separator: "\n").suffix(count).map { $0.split(separator: " ").map(String.init) }
  }

  struct Figures: Decodable, Equatable {
    struct Direction: Decodable, Equatable {
      let recall1: Double
      enum CodingKeys: String, CodingKey { case recall1 = "R@1" }
    }
    let top1: Double?
    let classes: Int?
    let captions: Int?
    let imageToText: Direction?
    let textToImage: Direction?
    enum CodingKeys: String, CodingKey {
      case top1, classes, captions
      case imageToText = "image_to_text"
      case textToImage = "text_to_image"
    }
  }

  @Test func theRowIsTheSameOnAnyNumberOfRanks() async throws {
    try await scene.importSets(scene.sets.map(\.name))
    var first: [[String]] = []
    for ranks in 1...3 {
      let json = scene.folder.path("paper.json")
      let run = try await table(arguments + ["--ranks", "\(ranks)", "--json", json], ranks: ranks)
      try #require(run.status == 0, "\(run)")
      let rows = rows(run, 3)
      if first.isEmpty { first = rows }
      #expect(rows == first, "\(ranks) ranks")

      let found = try JSONDecoder().decode([String: Figures].self, from: Data(contentsOf: URL(filePath: json)))
      let zeroShot = ["imagenet", "imagenet-v2", "imagenet-r", "imagenet-sketch"].map { found[$0]?.top1 }
      let retrieval = ["cc3m", "coco", "flickr", "coco-all", "flickr-all"].flatMap {
        [found[$0]?.imageToText?.recall1, found[$0]?.textToImage?.recall1]
      }
      let shown = (zeroShot + retrieval).map { $0.map { Launch.Figures.fixed(100 * $0, 2) } ?? "none" }
      #expect(rows[1].dropFirst(2) + rows[2].suffix(4) == shown[...])
      #expect(rows[2].dropFirst(2).prefix(6).allSatisfy { $0 == "-" })
      #expect(found["imagenet"]?.classes == 1000 && found["imagenet-r"]?.classes == PaperScene.rendered.count)
      #expect(found["coco"]?.captions == 60 && found["coco-all"]?.captions == 300)
    }
    #expect(
      first[0] == [
        "IN", "INv2", "IN-R", "IN-S", "CC3M", "I2T", "CC3M", "T2I", "COCO", "I2T", "COCO", "T2I", "Flickr", "I2T",
        "Flickr", "T2I",
      ])
  }

  @Test func setsMayBeMissing() async throws {
    try await scene.importSets(["cc3m"])
    let run = try await table(arguments)
    #expect(run.status == 0, "\(run)")
    let row = try #require(rows(run, 1).first)
    #expect(row.count == 12 && row[2...5] == ["-", "-", "-", "-"] && row[8...] == ["-", "-", "-", "-"], "\(row)")
    #expect(Double(row[6]) != nil && Double(row[7]) != nil)
  }

  @Test func saysWhatIsWrong() async throws {
    let empty = try await table(arguments)
    #expect(empty.status == 64)
    #expect(empty.errors.contains("holds none of the datasets imagenet imagenet-v2"), "\(empty)")
    try await scene.importSets(["imagenet-v2"])
    for (changed, words) in [
      (["--classes", "/nowhere"], "cannot read /nowhere; write it with scripts/fetch-vocabulary"),
      (["--ranks", "two"], "--ranks: expected a number"), (["--rank", "2"], "unknown option --rank"),
      (["--json"], "--json needs a value"), (["more"], "evaluate-paper MODEL DATA"),
    ] {
      let run = try await table(arguments + changed)
      #expect(run.status == 64, "\(run)")
      #expect(run.errors.contains(words), "\(run)")
    }
    let lost = try await table(["/nowhere", scene.folder.path("data")])
    #expect(lost.status == 64 && lost.errors.contains("there is no model at /nowhere"))
    // What the program itself refuses ends the script with the program's code.
    let short = try scene.folder.write("short.txt", "one\ntwo".utf8)
    let refused = try await table(arguments + ["--classes", short])
    #expect(refused.status == 65 && refused.errors.contains("there are 2 classes"), "\(refused)")
  }
}
