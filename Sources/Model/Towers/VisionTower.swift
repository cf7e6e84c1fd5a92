public import Tensor

/// What a forward is for; it matters to layers that see the batch as a whole.
public enum ForwardMode: Sendable {
  /// Features to use: batch norm takes its running statistics. Nothing is kept.
  case evaluation
  /// Features to train on, of which the same pictures' forward with `training` will follow (see micro-batches): batch
  /// norm takes the batch's statistics. Nothing is kept.
  case rehearsal
  /// Features to train on: batch norm takes the batch's statistics and keeps them for `moveStatistics`; all that
  /// backward needs is kept.
  case training

  /// Whether backward can follow.
  public var keeps: Bool { self == .training }
}

/// Pictures to features: a vision transformer or a ResNet.
public protocol VisionTower<S>: AnyObject {
  associatedtype S: Scalar

  /// Where its parameters are, in the order in which a forward reads them.
  var stages: TowerStages { get }

  /// Images [b, 3, size, size], normalised, to raw features [b, e], which stay until the next forward. `observe` sees
  /// each layer's output under the layer's name.
  func forward(
    _ images: Tensor<S>, mode: ForwardMode, observe: ((_ name: String, _ output: Tensor<S>) -> Void)?
  ) -> Tensor<S>

  /// Adds the gradients of all parameters, given that of the features [b, e] of the last forward with `training`.
  func backward(_ dfeatures: Tensor<S>)

  /// From here on batch norms of which all is frozen take their running statistics in training, too, and leave them as
  /// they are.
  func freeze(_ frozen: Frozen)

  /// From here on batch norm takes the statistics of all ranks together: each rank calls forward and backward as often
  /// as every other, be it with no pictures.
  func synchronize(over ranks: any Ranks<S>)

  /// Moves running statistics once, towards the statistics of all forwards with `training` since the last time. Throws
  /// what other ranks' part in those forwards and backwards threw.
  func moveStatistics() throws

  /// Forgets what has been kept for `moveStatistics`.
  func dropStatistics()
}

extension VisionTower {
  /// `training` if what backward needs is to be kept, and `evaluation` otherwise.
  public func forward(
    _ images: Tensor<S>, keeping: Bool, observe: ((_ name: String, _ output: Tensor<S>) -> Void)? = nil
  ) -> Tensor<S> {
    forward(images, mode: keeping ? .training : .evaluation, observe: observe)
  }
}
