import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// The scene of a training run with a trained teacher that differs from the student in its sizes, vocabulary, image
/// size, normalisation and handling of transparency.
final class TeacherScene: Sendable {
  let scene: TrainScene
  /// The path of the teacher's vocabulary.
  var words: String { scene.words }
  /// The folder of the teacher's run.
  var teacher: String { scene.runFolder("teacher").path(percentEncoded: false) }
  /// The teacher's weights and sizes in open_clip's form, which its run has written.
  var weights: String { scene.runFolder("teacher").appending(path: ModelFiles.weights).path(percentEncoded: false) }
  var sizes: String { scene.runFolder("teacher").appending(path: ModelFiles.config).path(percentEncoded: false) }

  static let model = """
    {embed_dim: 24, vision_cfg: {image_size: 24, patch_size: 8, width: 32, layers: 1, head_width: 16}, \
    text_cfg: {context_length: 10, vocab_size: 0, width: 48, heads: 3, layers: 1}}
    """

  /// Copies the run of a teacher that is trained once. The run names the vocabulary of the scene that it was trained
  /// in; a test that removes the vocabulary needs a teacher of its own.
  init(ownTeacher: Bool = false) async throws {
    scene = try await TrainScene()
    if ownTeacher {
      try await Self.trainTeacher(in: scene)
    } else {
      let made = try await Self.made.value
      let runs = scene.runFolder("teacher").deletingLastPathComponent()
      try FileManager.default.createDirectory(at: runs, withIntermediateDirectories: true)
      try FileManager.default.copyItem(at: made.runFolder("teacher"), to: scene.runFolder("teacher"))
    }
  }

  private static let made = Task {
    let scene = try await TrainScene(in: .untilExit())
    try await trainTeacher(in: scene)
    return scene
  }

  private static func trainTeacher(in scene: TrainScene) async throws {
    try await scene.train(
      "teacher",
      [
        "model=\(model)", "vocabulary=\(scene.words)", "steps=4", "optimizer.learning_rate=1e-2",
        "image={mean: [0.5, 0.25, 0.75], std: [0.5, 0.3, 0.2], alpha: drop, scale: [0.9, 1]}",
      ], ranks: nil)
  }

  /// An objective with every term that has parameters, the intra-modal term, and the contrastive loss.
  static let objective = "objective={preset: intra, fd: 20, icl: 1}"

  /// Runs the training of a student with these values set last.
  func run(_ values: [String] = [], _ options: [String] = [], ranks: Int? = nil) async throws -> MPIRun {
    try await scene.run(["teacher=\"\(teacher)\"", Self.objective] + values, options, ranks: ranks)
  }

  /// Trains a student to the end, and returns the loss of every step.
  @discardableResult
  func train(
    _ name: String, _ values: [String] = [], _ options: [String] = [], ranks: Int? = nil
  ) async throws -> [Double] {
    let run = try await run(["name=\(name)"] + values, options, ranks: ranks)
    try #require(run.status == 0, "\(run)")
    return try scene.losses(name)
  }

  func checkpoint(_ name: String, _ step: Int) throws -> Checkpoint {
    try Checkpoint.open(scene.checkpoint(name, step).path)
  }
}
