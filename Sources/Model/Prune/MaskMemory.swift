public import Tensor

/// The memory of a model that is being pruned.
extension MaskLayout {
  /// Returns the bytes that the training of masks takes beside the model and its optimizer, once all buffers have
  /// grown. `parameters` is the model's layout; `rows` has the rows of activations of each tower in a forward.
  public func trainingBytes<S: Scalar>(
    _ parameters: ParameterStore<S>, rows: (image: Int, text: Int), precision: ComputePrecision = .fp32
  ) -> Int {
    // The factors of rows and columns (`MaskedModel.factors`), and their gradients.
    let scaled = parameters.entries.map { MaskedParameter<S>($0, self) }.filter(\.isScaled).map(\.matrix)
    let factors = 2 * ((scaled.map(\.rows).max() ?? 0) + (scaled.map(\.columns).max() ?? 0))
    // What layer norms look at (`Survivors`), of at most all hidden units: x, y and dx; weight and bias and their
    // gradients; and y before it is rounded.
    let columns = towers.reduce(0) { sum, tower in
      let (n, w) = (tower.prefix.isEmpty ? rows.text : rows.image, tower.hidden.count)
      return sum + (precision == .fp32 ? 3 : 4) * n * w + 4 * w
    }
    // log α and the multipliers with both moments; the drawn masks, their slopes and their gradients.
    let numbers = 3 * (count + 2) + 3 * count
    // The weights without masks come first.
    return MemoryLayout<S>.stride * (parameters.count + factors + columns) + MemoryLayout<Double>.stride * numbers
  }

  /// Returns how many of a model's `count` scalars are left after a cut to `sparsity`. It is an upper bound: embeddings
  /// and projections, which lose hidden units as the blocks do, count as whole.
  public func remaining(of count: Int, sparsity: Double) -> Int {
    let already = Masks(self).sparsity(of: [Double](repeating: 1, count: self.count))
    return count - Int(max((sparsity - already) * prunable, 0).rounded())
  }
}
