public import Tensor

/// The embeddings of a global batch of N pairs, of which this rank owns b consecutive rows, e wide: unit rows, and the
/// gradients that terms add up.
public final class Features<S: Scalar> {
  /// N.
  public private(set) var count = 0
  /// The global row of this rank's first.
  public private(set) var first = 0
  /// Own unit rows [b, e].
  public private(set) var image = Tensor<S>(Shape(0, 0))
  public private(set) var text = Tensor<S>(Shape(0, 0))
  /// All unit rows [N, e].
  public private(set) var allImages = Tensor<S>(Shape(0, 0))
  public private(set) var allTexts = Tensor<S>(Shape(0, 0))
  /// ∂L/∂(own unit rows) [b, e]: terms add to these.
  public private(set) var imageGradient = Tensor<S>(Shape(0, 0))
  public private(set) var textGradient = Tensor<S>(Shape(0, 0))

  private let unit = (Buffer<S>(), Buffer<S>())
  private let all = (Buffer<S>(), Buffer<S>())
  private let reciprocal = (Buffer<S>(), Buffer<S>())
  private let gradient = (Buffer<S>(), Buffer<S>())
  private let raw = (Buffer<S>(), Buffer<S>())

  public init() {}

  /// Normalises this rank's raw features [b, e], gathers everybody's and clears the gradients.
  ///
  /// `rows` are this rank's of the global batch of `count`.
  public func load(
    image: Tensor<S>, text: Tensor<S>, rows: Range<Int>, count: Int, ranks: some Ranks<S>
  ) throws {
    let (b, e) = (image.rows, image.columns)
    precondition(rows.count == b && text.shape == image.shape, "\(image.shape), \(text.shape) for rows \(rows)")
    self.count = count
    first = rows.lowerBound
    self.image = unit.0.tensor(Shape(b, e))
    self.text = unit.1.tensor(Shape(b, e))
    normalizeRows(image, into: self.image, reciprocal: reciprocal.0.tensor(Shape(b)))
    normalizeRows(text, into: self.text, reciprocal: reciprocal.1.tensor(Shape(b)))
    allImages = all.0.tensor(Shape(count, e))
    allTexts = all.1.tensor(Shape(count, e))
    try ranks.gatherRows(self.image, into: allImages)
    try ranks.gatherRows(self.text, into: allTexts)
    imageGradient = gradient.0.tensor(Shape(b, e))
    textGradient = gradient.1.tensor(Shape(b, e))
    fill(imageGradient, 0)
    fill(textGradient, 0)
  }

  /// The gradients with respect to the raw features [b, e], through the normalisation.
  public func rawGradients() -> (image: Tensor<S>, text: Tensor<S>) {
    let b = image.rows
    let result = (raw.0.tensor(image.shape), raw.1.tensor(text.shape))
    fill(result.0, 0)
    fill(result.1, 0)
    normalizeRowsBackward(imageGradient, y: image, reciprocal: reciprocal.0.tensor(Shape(b)), dx: result.0)
    normalizeRowsBackward(textGradient, y: text, reciprocal: reciprocal.1.tensor(Shape(b)), dx: result.1)
    return result
  }
}
