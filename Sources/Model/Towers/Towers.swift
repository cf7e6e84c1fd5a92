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

/// The stages of a tower in the order of a forward: what precedes the blocks, each block, and what follows them.
public final class TowerStages {
  /// The ranges of each stage's parameters in every arena of the model's layout.
  public let extents: [[Range<Int>]]
  /// Called in a forward before a stage's parameters are read, which is over with the next stage or the forward's end.
  public var willRun: ((_ stage: Int) -> Void)?
  /// Called in a backward with the index of each stage, the last first, once its gradients are complete.
  public var gradientsReady: ((_ stage: Int) -> Void)?
  init(_ extents: [[Range<Int>]]) { self.extents = extents }
}

/// Activation checkpointing: which activations the backward of a tower computes again instead of keeping them (Chen et
/// al.: Training Deep Nets with Sublinear Memory Cost, 2016). Features and gradients are the same bits.
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
  /// The same images will run again in `training`: batch norms take the batch's statistics, and nothing is kept.
  case noGrad
  /// Batch norms take the batch's statistics and keep them for `moveStatistics`, and all that backward needs is kept.
  case training

  /// True if a backward can follow.
  public var keeps: Bool { self == .training }
}

/// A tower that computes the features of images: a vision transformer or a ResNet.
public protocol VisionTower<S>: AnyObject {
  associatedtype S: Scalar
  var stages: TowerStages { get }
  /// Computes raw features [b, e] of normalised images [b, 3, size, size]; they stay until the next forward. With
  /// patch dropout, `kept` has the tokens of each image, one after another, as `VisionConfig.keptTokens` returns them;
  /// nil: all. `observe` is called with the output of each layer and its name, and of a transformer's last block with
  /// the rows that are read.
  func forward(
    _ images: Tensor<S>, kept: ArraySlice<Int>?, mode: ForwardMode, observe: ((String, Tensor<S>) -> Void)?
  ) -> Tensor<S>
  /// Adds to the gradients of all parameters, given that of the features [b, e] of the last forward in `training`.
  func backward(_ dfeatures: Tensor<S>)
  /// Makes batch norms whose parameters are all frozen use their running statistics in training too, unchanged.
  func freeze(_ frozen: Frozen)
  /// Makes batch norms use statistics over all ranks, which must then call forward and backward equally often.
  func synchronize(over ranks: any Ranks<S>)
  /// Moves the running statistics towards those of all forwards in `training` since the last move. Throws the first
  /// error of a collective in these forwards and backwards.
  func moveStatistics() throws
  /// Drops what was kept for `moveStatistics`.
  func dropStatistics()
}

extension VisionTower {
  /// The same for all patches.
  public func forward(
    _ images: Tensor<S>, mode: ForwardMode, observe: ((String, Tensor<S>) -> Void)? = nil
  ) -> Tensor<S> { forward(images, kept: nil, mode: mode, observe: observe) }
}

/// The end of a transformer tower: features [b, e] = norm(x) · projection, of one row of each of b sequences, x [b, w].
final class TowerHead<S: Scalar> {
  let norm: LayerNorm<S>
  /// [w, e].
  let projection: Parameter<S>
  private let activations = LayerNorm<S>.Activations()
  private let (normed, features) = (Buffer<S>(), Buffer<S>())
  private let (dx, dnormed) = (Buffer<S>(), Buffer<S>())
  init(_ norm: LayerNorm<S>, _ projection: Parameter<S>) { (self.norm, self.projection) = (norm, projection) }

  /// x [b, w] → [b, e].
  func forward(_ x: Tensor<S>) -> Tensor<S> {
    let last = normed.tensor(x.shape)
    norm.forward(x, into: .fp32(last), activations: activations)
    let out = features.tensor(Shape(x.rows, projection.shape[1]))
    matmul(last, projection.value, into: out)
    return out
  }

  /// Returns the gradient of x, and adds to those of the parameters.
  func backward(_ dfeatures: Tensor<S>, x: Tensor<S>) -> Tensor<S> {
    let dlast = dnormed.tensor(x.shape)
    matmul(dfeatures, projection.value, into: dlast, transposeB: true)
    matmul(normed.tensor(x.shape), dfeatures, into: projection.gradient, transposeA: true, beta: 1)
    let dx = dx.tensor(x.shape)
    fill(dx, 0)
    norm.backward(dlast, x: x, activations: activations, dx: dx)
    return dx
  }
}
