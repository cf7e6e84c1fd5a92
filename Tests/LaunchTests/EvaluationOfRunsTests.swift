import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// Runs `kinship evaluate` on the output of `kinship train`.
@Suite struct EvaluationOfRunsTests {
  let scene: EvaluationScene
  let run: String

  /// Trains a few steps on two ranks, with an evaluation at the end.
  init() async throws {
    scene = try EvaluationScene(count: 70)
    run = scene.folder.path("runs/short")
    try scene.folder.write("subset.txt", "red cat\ndog".utf8)
    let file = try scene.folder.write(
      "run.yaml",
      """
      name: short
      output: \(scene.folder.path("runs"))
      model: {embed_dim: 16,
        vision_cfg: {image_size: 16, patch_size: 8, width: 32, layers: 1, head_width: 16},
        text_cfg: {context_length: 8, vocab_size: 0, width: 32, heads: 2, layers: 1}}
      data: {datasets: [\(scene.dataset)]}
      vocabulary: \(scene.folder.path("vocabulary.txt.gz"))
      batch: {global: 32}
      steps: 6
      log: {every: 1}
      evaluate:
        evaluations:
          - {kind: retrieval, dataset: \(scene.dataset)}
          - {kind: retrieval, dataset: \(scene.dataset), captions: first, duplicates: strict}
          - {kind: zero-shot, dataset: \(scene.dataset)}
          - {kind: zero-shot, dataset: \(scene.dataset), subset: \(scene.folder.path("subset.txt"))}
          - {kind: zero-shot, dataset: \(scene.dataset), subset: present}
      """.utf8)
    let training = try await MPIRun.kinship(["train", file], ranks: 2)
    try #require(training.status == 0, "\(training)")
  }

  func figures<Figures: Decodable>(_ arguments: [String], ranks: Int?, as _: Figures.Type) async throws -> Figures {
    let json = scene.folder.path("figures.json")
    let run = try await MPIRun.kinship(
      ["evaluate"] + arguments + ["--dataset", scene.dataset, "--json", json], ranks: ranks)
    try #require(run.status == 0, "\(run)")
    return try JSONDecoder().decode(Figures.self, from: Data(contentsOf: URL(filePath: json)))
  }

  struct Source: Decodable, Equatable {
    let checkpoint: String
    let step: Int
  }

  @Test func aRunAndItsLatestCheckpointGiveTheSameAsTrainingDid() async throws {
    let latest = run + "/checkpoints/latest"
    let distinct = ["retrieval", "--candidates", "distinct-captions", "--checkpoint"]
    let retrieval = try await figures(distinct + [run], ranks: nil, as: RetrievalFigures.self)
    #expect(try await figures(distinct + [latest], ranks: 3, as: RetrievalFigures.self) == retrieval)
    #expect(
      try await figures(distinct + [latest], ranks: 2, as: Source.self) == Source(checkpoint: latest, step: 6))
    let paper = try await figures(
      ["retrieval", "--captions", "first", "--duplicates", "strict", "--checkpoint", run], ranks: 2,
      as: RetrievalFigures.self)
    #expect(paper.captions == 70 && paper != retrieval)
    let zeroShot = try await figures(["zero-shot", "--checkpoint", latest], ranks: 2, as: ZeroShotFigures.self)
    let two = try await figures(
      ["zero-shot", "--subset", scene.folder.path("subset.txt"), "--checkpoint", latest], ranks: nil,
      as: ZeroShotFigures.self)
    let present = try await figures(
      ["zero-shot", "--subset", "present", "--checkpoint", latest], ranks: 3, as: ZeroShotFigures.self)

    // These figures were logged at the end of training, on two ranks.
    struct Logged: Decodable {
      let evaluation: String?
      let figures: [String: Double]?
    }
    let logged = try String(contentsOfFile: run + "/log.jsonl", encoding: .utf8).split(separator: "\n").map {
      try JSONDecoder().decode(Logged.self, from: Data($0.utf8))
    }.filter { $0.figures != nil }
    func recalls(_ found: RetrievalFigures) -> [String: Double] {
      [
        "i2t R@1": found.imageToText.recall1, "i2t R@5": found.imageToText.recall5,
        "i2t R@10": found.imageToText.recall10, "t2i R@1": found.textToImage.recall1,
        "t2i R@5": found.textToImage.recall5, "t2i R@10": found.textToImage.recall10,
        "i2t MRR": found.imageToText.meanReciprocal, "t2i MRR": found.textToImage.meanReciprocal,
      ]
    }
    #expect(
      logged.map(\.figures) == [
        recalls(retrieval), recalls(paper), ["top-1": zeroShot.top1, "top-5": zeroShot.top5],
        ["top-1": two.top1, "top-5": two.top5], ["top-1": present.top1, "top-5": present.top5],
      ])
    #expect(
      logged.map(\.evaluation) == [
        "retrieval scene", "retrieval scene first strict", "zero-shot scene", "zero-shot scene among 2",
        "zero-shot scene",
      ])
  }

  @Test func saysWhatIsWrong() async throws {
    let other = scene.folder.path("other.txt")
    try VocabularyTrainer.train(on: WordCounts(), merges: 0).write(to: other)
    let part = try #require(
      try FileManager.default.contentsOfDirectory(atPath: run + "/checkpoints/step-00000006").sorted().first {
        $0.hasSuffix(".h5")
      })
    let base = ["retrieval", "--dataset", scene.dataset, "--checkpoint"]
    func expect(_ arguments: [String], _ status: Int, _ words: String) async throws {
      let run = try await MPIRun.kinship(["evaluate"] + arguments, ranks: 2)
      #expect(run.status == status, "\(run)")
      #expect(run.errors.contains(words), "\(run)")
    }
    try await expect(base + [run, "--vocabulary", other], 65, "not the vocabulary that the model was trained with")
    try await expect(base + [run, "--vocabulary", "lost.txt"], 74, "lost.txt: there is no such file; name the vocab")
    try await expect(base + [run, "--model", "ViT-B-32"], 64, "--model belongs to a safetensors file")
    try await expect(base + [scene.folder.path("none")], 74, "none")
    let file = try FileHandle(forWritingTo: URL(filePath: run + "/checkpoints/step-00000006/" + part))
    try file.truncate(atOffset: 1_000)
    try file.close()
    try await expect(base + [run], 65, "\(part) has 1000 bytes")
  }
}
