import Dist
import Foundation
import Model
import Tensor

/// The larger model of `init.inherit`, from which the run's model is cut.
struct InheritedWeights: Initialization {
  let saved: SavedStart
  let plan: Inheritance
  private let source: CLIPConfig
  private let student: CLIPConfig
  private let towers: Towers
  private let checkpoint: Checkpoint?

  /// Opens the source and plans the cuts; nil if the run inherits nothing. Every rank must call it.
  ///
  /// - Throws: a `UserError` (exit code 65) if the run's model cannot be cut from the source, or if the text tower
  ///   inherits and the source was trained with another vocabulary.
  init?(_ run: RunConfig, student: CLIPConfig, over ranks: Communicator) throws {
    guard let path = run.start.inherit else { return nil }
    self.student = student
    towers = run.start.towers
    if WeightsFile.isOne(path) {
      checkpoint = nil
      source = try ModelFiles.sizes(ModelFiles.description(of: path))
      saved = SavedStart(key: "inherit", path: path, sha256: try SHA256.ofFile(path))
    } else {
      let opened = try Checkpoint.open(TrainedModel.checkpoint(path), communicator: ranks)
      let trained = try SavedRun(opened)
      checkpoint = opened
      source = try CLIPConfig(json: Data(trained.model.utf8))
      saved = SavedStart(key: "inherit", path: path, sha256: try opened.sha256)
      if towers.text { try trained.requireVocabulary(of: run, in: path, advice: ", or init.towers to image") }
    }
    do throws(InheritanceError) {
      plan = try Inheritance(from: source, to: student, towers: towers)
    } catch {
      throw UserError(path, "the run's model cannot be cut from it:\n  \(error)")
    }
  }

  func apply(to model: CLIP<Float>) throws {
    let whole = CLIP<Float>(source, frozen: true)
    if let checkpoint {
      try whole.read(checkpoint)
    } else {
      try ModelFiles.read(saved.path, into: whole)
    }
    plan.apply(from: whole.parameters, to: model.parameters)
  }

  var text: String {
    let which = towers == .both ? "both towers" : "the \(towers.rawValue) tower"
    var parts = plan.stacks.map { stack in
      let all = stack.blocks.count == stack.sourceCount
      let blocks = all ? "all" : stack.blocks.map(String.init).joined(separator: " ")
      return "\(stack.name): \(blocks) of \(stack.sourceCount) blocks"
    }
    if towers.image { parts.append("image tower \(student.vision.width) of \(source.vision.width) wide") }
    if towers.text { parts.append("text tower \(student.text.width) of \(source.text.width) wide") }
    parts.append("embedding \(student.embedding) of \(source.embedding)")
    return "inherits \(which) (\(plan.cuts.count) tensors) from \(saved.path), SHA-256 \(saved.sha256): "
      + parts.joined(separator: "; ")
  }
}
