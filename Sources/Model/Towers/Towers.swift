public import Settings
public import Tensor

/// The towers of a model that a setting applies to.
public enum Towers: String, CaseIterable, FieldValue {
  case both, image, text

  public var image: Bool { self != .text }
  public var text: Bool { self != .image }

  /// Returns true if a parameter belongs to these towers. The logit scale and the logit bias belong only to both.
  public func contains(_ name: String) -> Bool {
    if [CLIPConfig.logitScale, CLIPConfig.logitBias].contains(name) { return self == .both }
    return name.hasPrefix("visual.") ? image : text
  }
}

/// The stages of a tower, in the order in which a forward runs them: what precedes the blocks, each block, and what
/// follows them. A backward runs them in reverse.
public final class TowerStages {
  /// The ranges of each stage's parameters in every arena of the model's layout.
  public let extents: [[Range<Int>]]
  /// Called in a forward with the index of each stage, before any of its parameters is read. They are no longer read
  /// once the next stage has been announced or the forward has returned.
  public var willRun: ((_ stage: Int) -> Void)?
  /// Called in a backward with the index of each stage, the last first, once its gradients are complete.
  public var gradientsReady: ((_ stage: Int) -> Void)?

  init(_ extents: [[Range<Int>]]) { self.extents = extents }
}

/// Activation checkpointing: which activations the backward of a tower computes again instead of keeping them (Chen et
/// al.: Training Deep Nets with Sublinear Memory Cost, 2016).
///
/// The same kernels read the same numbers twice, so features and gradients are the same bits.
public enum Recompute: String, CaseIterable, Codable, FieldValue {
  /// Backward computes nothing again: all that it needs is kept.
  case none
  /// Backward computes again what takes no matrix product: in transformers the outputs of the norms and of the
  /// activation, in a ResNet those of a block's inner norms and pools.
  case cheap
  /// Only the output of each block is kept: each block but the last runs once more.
  case blocks
}

/// The purpose of a forward. It determines what is kept, and the statistics that batch norms use.
public enum ForwardMode: Sendable {
  /// The features are used: batch norms take their running statistics, and nothing is kept.
  case evaluation
  /// The features are trained on, and the same images will be run again in `training` (see micro-batches): batch norms
  /// take the batch's statistics, and nothing is kept.
  case noGrad
  /// The features are trained on: batch norms take the batch's statistics and keep them for `moveStatistics`, and all
  /// that backward needs is kept.
  case training

  /// True if a backward can follow.
  public var keeps: Bool { self == .training }
}

/// A tower that computes the features of images: a vision transformer or a ResNet.
public protocol VisionTower<S>: AnyObject {
  associatedtype S: Scalar

  /// The tower's stages, with the ranges of their parameters.
  var stages: TowerStages { get }

  /// Computes raw features [b, e] of normalised images [b, 3, size, size]; they stay until the next forward. `observe`
  /// is called with the output of each layer and its name.
  func forward(
    _ images: Tensor<S>, mode: ForwardMode, observe: ((_ name: String, _ output: Tensor<S>) -> Void)?
  ) -> Tensor<S>

  /// Adds to the gradients of all parameters, given that of the features [b, e] of the last forward in `training`.
  func backward(_ dfeatures: Tensor<S>)

  /// Makes batch norms whose parameters are all frozen use their running statistics in training too, and leave them as
  /// they are.
  func freeze(_ frozen: Frozen)

  /// Makes batch norms use statistics over all ranks. Each rank must then call forward and backward equally often, if
  /// need be without images.
  func synchronize(over ranks: any Ranks<S>)

  /// Moves the running statistics once, towards the statistics of all forwards in `training` since the last move.
  /// Throws the first error of a collective in these forwards and backwards.
  func moveStatistics() throws

  /// Drops what was kept for `moveStatistics`.
  func dropStatistics()
}

extension VisionTower {
  /// Computes raw features [b, e] of normalised images [b, 3, size, size], without observing layers.
  public func forward(_ images: Tensor<S>, mode: ForwardMode) -> Tensor<S> { forward(images, mode: mode, observe: nil) }
}
