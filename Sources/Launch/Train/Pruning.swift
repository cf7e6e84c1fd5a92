import Dist
import Foundation
import Model
import Settings
import Tensor

/// The pruning of a run: masks are trained up to the step of the cut, which leaves a smaller model.
struct Pruning {
  let config: PruneConfig
  let seed: UInt64

  init?(_ run: RunConfig) {
    guard let config = run.prune else { return nil }
    (self.config, seed) = (config, run.seed)
  }

  /// Throws a `UserError` if the model has no masks or is as sparse already, or if the run ends before the cut.
  func check(_ model: CLIPConfig, steps: Int) throws {
    if model.vision.stages != nil, config.towers.image {
      throw UserError(
        "prune.towers is \(config.towers.rawValue), and the image tower is a ModifiedResNet, which has no "
          + "masks: set prune.towers to text")
    }
    guard config.step < steps else {
      throw UserError(
        "prune.step is \(config.step), and the run has \(steps) steps: lower it, or raise steps or epochs",
        status: .usage)
    }
    let layout = MaskLayout(model, towers: config.towers)
    let already = Masks(layout).sparsity(of: [Double](repeating: 1, count: layout.count))
    guard already < config.sparsity else {
      throw UserError(
        "prune.sparsity is \(config.sparsity), and \(Figures.significant(already, 3)) of the model has "
          + "already been removed: raise it")
    }
  }

  func masks(of model: CLIP<Float>) -> MaskTraining<Float> {
    MaskTraining(
      model, MaskLayout(model.config, towers: config.towers),
      .init(
        sparsity: config.sparsity, start: config.startSparsity, ramp: config.ramp, learningRate: config.learningRate,
        seed: seed))
  }

  /// Returns the sizes of the model in a checkpoint, which after the cut are not those of the run file; patch dropout,
  /// which is no size, is the run file's.
  func config(_ model: CLIPConfig, in checkpoint: Checkpoint?) throws -> CLIPConfig {
    guard let checkpoint, isCut(after: checkpoint.manifest.record.step) else { return model }
    let record = checkpoint.manifest.record
    guard !record.arrays.contains(where: { $0.name.hasPrefix(MaskTraining<Float>.prefix) }) else {
      throw UserError(
        checkpoint.folder,
        "has masks after step \(record.step), and prune.step \(config.step) lies before it; set prune.step to "
          + "\(record.step) or more, or resume from an earlier checkpoint")
    }
    var cut = try SavedRun(checkpoint).config(in: checkpoint.folder)
    cut.vision.patchDropout = model.vision.patchDropout
    return cut
  }

  /// True if a checkpoint after this number of steps holds the cut model. The one of the cut's own step does not.
  func isCut(after steps: Int) -> Bool { steps > config.step }

  var text: String {
    let which = config.towers == .both ? "both towers" : "the \(config.towers.rawValue) tower"
    let sparsity = "from sparsity \(config.startSparsity) to \(config.sparsity)"
    return "prunes \(which) \(sparsity): masks for \(config.step) steps, during which the learning rate rises, "
      + "then the cut"
  }

  static func text(_ before: CLIP<Float>, _ after: CLIP<Float>, _ sparsity: Double) -> String {
    func tower(_ name: String, _ width: (Int, Int), _ blocks: (BlockSizes, BlockSizes)) -> String {
      "\(name) \(width.1) of \(width.0) hidden units, heads \(blocks.1.heads) of \(blocks.0.heads), MLP units "
        + "\(blocks.1.hidden) of \(blocks.0.hidden)"
    }
    let (a, b) = (before.config, after.config)
    var towers: [String] = []
    if b.vision.blocks != a.vision.blocks {
      towers.append(tower("image tower", (a.vision.width, b.vision.width), (a.vision.blockSizes, b.vision.blockSizes)))
    }
    if b.text.blocks != a.text.blocks {
      towers.append(tower("text tower", (a.text.width, b.text.width), (a.text.blockSizes, b.text.blockSizes)))
    }
    return "cut from \(before.parameters.parameterCount) to \(after.parameters.parameterCount) parameters, sparsity "
      + "\(Figures.significant(sparsity, 4)): " + towers.joined(separator: "; ") + "; the optimizer restarts"
  }
}
