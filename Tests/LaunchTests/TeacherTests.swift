import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Real jobs that learn from a live teacher.
@Suite struct TeacherTests {
  let scene: TeacherScene

  init() async throws { scene = try await TeacherScene() }

  /// Returns the names of the objective's own parameters in a checkpoint.
  private static func own(_ checkpoint: Checkpoint) -> [String] {
    checkpoint.manifest.parameters.map(\.name).filter { NamedSlice.Owner(of: $0) == .objective }
  }

  /// Ten steps cross three ends of epochs. Each has seven pairs, which neither 2 nor 3 divides.
  @Test func tenLossesOnAnyNumberOfRanks() async throws {
    let before = try SHA256.ofFile(scene.weights)
    let alone = try await scene.train("on1", ranks: 1)
    #expect(alone.count == 10 && alone.allSatisfy(\.isFinite))
    for ranks in [2, 3] {
      let losses = try await scene.train("on\(ranks)", ranks: ranks)
      #expect(difference(losses, alone) < 1e-5, "\(ranks): \(losses), alone \(alone)")
    }
    let plain = try await scene.train("plain", ["objective=clip"])
    #expect(difference(plain, alone) > 0.1, "with the teacher \(alone), without \(plain)")

    // The student's checkpoint holds the student and the heads. The teacher is unchanged.
    #expect(try SHA256.ofFile(scene.weights) == before)
    let checkpoint = try scene.checkpoint("on2", 10)
    let saved = try SavedRun(checkpoint)
    let model = CLIP<Float>.layout(try CLIPConfig(json: Data(saved.model.utf8)))
    let names = checkpoint.manifest.parameters.map(\.name)
    #expect(Array(names.prefix(model.entries.count)) == model.entries.map(\.name))
    #expect(Self.own(checkpoint) == Array(names.dropFirst(model.entries.count)))
    #expect(checkpoint.manifest.parameters.contains { $0.name.hasPrefix("objective.") && $0.shape.contains(24) })
    #expect(saved.teacher?.path == scene.teacher)

    // The weights in open_clip's form do not have the heads, and evaluations do not need them.
    let weights = try SafetensorsFile(
      scene.scene.runFolder("on2").appending(path: ModelFiles.weights).path(percentEncoded: false))
    #expect(Set(weights.names) == Set(model.entries.map(\.name)))
    let evaluation = try await MPIRun.kinship(
      [
        "evaluate", "retrieval", "--checkpoint", scene.scene.runFolder("on2").path, "--dataset", scene.scene.dataset,
      ], ranks: 2)
    #expect(evaluation.status == 0, "\(evaluation)")
  }

  @Test func resumesToTheBitAndOnOtherRanks() async throws {
    let straight = try await scene.train("straight", ["checkpoint.every=4"], ranks: 2)
    #expect(!Self.own(try scene.checkpoint("straight", 4)).isEmpty)
    for ranks in [2, 1, 3] {
      let name = "from\(ranks)"
      let rest = try await scene.train(
        name, ["checkpoint.every=4"], ["--resume", scene.scene.checkpoint("straight", 4).path], ranks: ranks)
      #expect(difference(rest, Array(straight.dropFirst(4))) < 1e-5, "\(ranks): \(rest), straight \(straight)")
      if ranks == 2 {
        #expect(rest == Array(straight.dropFirst(4)))
        #expect(try scene.scene.parts(name, 10) == scene.scene.parts("straight", 10))
      }
    }
  }

  @Test func microBatchesGiveTheSameLosses() async throws {
    let whole = try await scene.train("whole", ["teacher.micro_batch_size=all"])
    for (microBatchSize, student) in [("1", "all"), ("2", "3")] {
      let pieces = try await scene.train(
        "by\(microBatchSize)", ["teacher.micro_batch_size=\(microBatchSize)", "batch.micro_batch_size=\(student)"],
        ranks: 2)
      #expect(difference(pieces, whole) < 1e-5, "\(microBatchSize): \(pieces), \(whole)")
    }
  }

  /// A teacher in open_clip's form gives the same losses, with sizes and normalisation from the JSON file beside the
  /// weights, from one elsewhere, or from the run file.
  @Test func theSameTeacherInOpenCLIPsForm() async throws {
    let losses = try await scene.train("run")
    let from = ["teacher.model=\"\(scene.weights)\"", "teacher.vocabulary=\"\(scene.words)\""]
    #expect(try await scene.train("file", from) == losses)
    let alone = scene.scene.folder.path("alone.safetensors")
    try FileManager.default.copyItem(atPath: scene.weights, toPath: alone)
    let elsewhere = ["teacher.model=\"\(alone)\"", "teacher.vocabulary=\"\(scene.words)\""]
    #expect(try await scene.train("elsewhere", elsewhere + ["teacher.config=\"\(scene.sizes)\""]) == losses)

    // A JSON file without preprocessing means CLIP's normalisation, which the run file can replace.
    let saved = try SavedRun(scene.checkpoint("teacher", 4))
    let bare = try scene.scene.folder.write("bare.json", saved.model.utf8)
    let unsaid = try await scene.train("unsaid", elsewhere + ["teacher.config=\"\(bare)\""])
    #expect(difference(unsaid, losses) > 1e-4)
    let said = try await scene.train(
      "said",
      elsewhere + [
        "teacher.config=\"\(bare)\"", "teacher.image={mean: [0.5, 0.25, 0.75], std: [0.5, 0.3, 0.2]}",
      ])
    // None of the scene's images is transparent.
    #expect(said == losses)
  }

  /// A ResNet uses its running statistics, so its embeddings do not depend on the rest of the batch.
  @Test func aResNetAsTeacher() async throws {
    try await scene.scene.train(
      "resnet",
      [
        "model={embed_dim: 20, vision_cfg: {image_size: 32, layers: [1, 1, 1, 1], width: 8, head_width: 32}, "
          + "text_cfg: {context_length: 8, vocab_size: 0, width: 32, heads: 2, layers: 1}}",
        "steps=3",
      ], ranks: nil)
    let teacher = ["teacher=\"\(scene.scene.runFolder("resnet").path)\"", "steps=5"]
    let whole = try await scene.train("student", teacher)
    let pieces = try await scene.train("pieces", teacher + ["teacher.micro_batch_size=1"], ranks: 3)
    #expect(difference(pieces, whole) < 1e-5, "\(pieces), \(whole)")
    let file = scene.scene.runFolder("resnet").appending(path: ModelFiles.weights).path
    #expect(try await scene.train("file", teacher + ["teacher.model=\"\(file)\""]) == whole)
  }

  /// A fixed scale is the same from the first step to the checkpoint.
  @Test func aFixedScaleIsNotLearned() async throws {
    try await scene.train("fixed", ["objective=tinyclip", "steps=3"], ranks: 2)
    #expect(try scene.scene.log("fixed", "step").map(\.logitScale).allSatisfy { abs(($0 ?? 0) - 50) < 1e-3 })
    let checkpoint = try scene.checkpoint("fixed", 3)
    let saved = try SavedRun(checkpoint)
    let model = CLIP<Float>(try CLIPConfig(json: Data(saved.model.utf8)), frozen: true)
    try checkpoint.readValues(model.parameters.entries, into: model.parameters.values)
    #expect(abs(model.logitScale.value[0] - Float(log(50.0))) < 1e-6)
  }
}
