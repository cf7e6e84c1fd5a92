public import Settings
public import Tensor

/// The settings of SigLIP's sigmoid loss.
public struct SigLIPSettings: TermSettings {
  public static let key = "siglip"
  public static let needs: TermNeeds = []
  public var weight = Scheduled(0.0)
  /// The value at which the model's `logit_bias` begins (open_clip's `init_logit_bias`).
  public var bias = CLIPConfig.usualLogitBias

  public mutating func options(_ map: FieldMap) { map.field("siglip_bias", &bias) }

  public var mistakes: [Mistake] {
    let bounds = CLIPConfig.logitBiasBounds
    if bounds.contains(bias) { return [] }
    return [("siglip_bias", "expected \(Int(bounds.lowerBound)) to \(Int(bounds.upperBound)), found \(bias)")]
  }

  public var initialLogitBias: Double? { bias }
  /// Counts one pass, which gives value and gradient.
  public func products(_ size: ObjectiveSize) -> TermProducts { TermProducts(gradients: size.student, passes: 1) }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> {
    SigLIP(parameters.tiles, bias: parameters.logitBias(bias))
  }
}

/// SigLIP's sigmoid loss (Zhai et al., ICCV 2023) as open_clip's `SigLipLoss` computes it: every pair of an image and a
/// caption is classified by itself as belonging together or not.
///
///     L = −1/N Σ_ij ln σ(y_ij z_ij)     z_ij = α u_i·v_j + β     y_ij = 1 for i = j and −1 otherwise
///
/// The sum runs over the global batch, and the learned bias β is the model's `logit_bias`. open_clip divides each
/// rank's share by the local batch and averages over the ranks, which gives the same value. With
/// G_ij = ∂L/∂z_ij = −y_ij σ(−y_ij z_ij)/N, dU = α G V, dV = α Gᵀ U, dα = Σ G · U Vᵀ and dβ = Σ G. Without a softmax no
/// row has to be known as a whole: value and gradient come from one pass over the tiles, and beyond the rows that all
/// terms share, ranks exchange only the sum of the value.
final class SigLIP<S: Scalar>: DistillationTerm {
  private let tiles: Tiles<S>
  private let bias: Parameter<S>
  private let memory = (losses: Buffer<S>(), slopes: Buffer<S>())

  init(_ tiles: Tiles<S>, bias: Parameter<S>) { (self.tiles, self.bias) = (tiles, bias) }

  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    let (n, local) = (Double(context.batch.count), Shape(context.batch.rows.count))
    let (losses, slopes) = (memory.losses.tensor(local), memory.slopes.tensor(local))
    fill(losses, 0)
    fill(slopes, 0)
    let (scale, beta) = (context.scale, bias.value[0])
    let weight = S(context.options[SigLIPSettings.self].weight.wrappedValue / n)
    // Adds the anchors' gradient, the sums of their rows of G to `slopes`, and the sums of their rows of −ln σ to
    // `losses`. Returns this rank's share of dα.
    func gradient(_ anchors: UnitRows<S>, _ keys: UnitRows<S>, _ losses: Tensor<S>?) -> Double {
      tiles.gradient(anchors.own, keys.all, scale: scale, into: anchors.gradient) { tile, rows, columns, along in
        sigmoidGradient(
          tile, scale: scale, bias: beta, weight: weight, diagonal: context.batch.diagonal(rows, columns),
          addingTo: (along, slopes.slice(rows), losses?.slice(rows)))
      }
    }
    // The images' tiles hold every pair once, so they give the value and the gradients of scale and bias.
    let slope = gradient(context.student.image, context.student.text, losses)
    bias.gradient[0] += S(sum(slopes))
    _ = gradient(context.student.text, context.student.image, nil)
    return TermOutcome(share: sum(losses) / n, scaleGradient: slope)
  }
}
