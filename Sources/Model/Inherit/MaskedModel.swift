public import Tensor

/// A model under masks.
///
/// A mask multiplies an activation: the hidden units after positions are added and behind both branches of every block,
/// each head before the output projection, each MLP unit after its activation. All of these are linear in the weights
/// just before or behind, so here the masks multiply weights, once a step: with z the hidden masks,
///
///     embeddings, positions: x_j z_j      out_proj: z_j W_jc z_head(c), z_j b_j      c_proj: z_j W_jm z_m, z_j b_j
///
/// which is the same function with the same gradients, touches no layer but layer norm (which must pass over units that
/// are 0), and is what the cut model will hold. `wear` puts masked weights into the model's parameters, for any number
/// of forwards and backwards; `takeOff` puts the weights back.
public final class MaskedModel<S: Scalar> {
  public let model: CLIP<S>
  public let layout: MaskLayout
  private let parameters: [MaskedParameter<S>]
  /// The weights without masks, in the parameters' layout, while masks are worn.
  private let weights: Tensor<S>
  private var worn: [Double]?
  private let factors = (Buffer<S>(), Buffer<S>())
  private let slopes = (Buffer<S>(), Buffer<S>())

  public init(_ model: CLIP<S>, _ layout: MaskLayout) {
    self.model = model
    self.layout = layout
    parameters = model.parameters.entries.map { MaskedParameter($0, layout) }
    weights = Tensor(Shape(model.parameters.count))
  }

  /// Multiplies the masks into the model's parameters. Masks that are all 1 leave every bit as it is.
  public func wear(_ masks: [Double]) {
    precondition(worn == nil && masks.count == layout.count, "\(masks.count) masks for \(layout.count)")
    worn = masks
    copy(model.parameters.values, into: weights)
    for place in parameters where place.isScaled {
      let (rows, columns) = factors(of: place, masks)
      scaleRowsAndColumns(
        weights.slice(place.entry.range), rows: rows, columns: columns, into: model.parameters.value(of: place.entry))
    }
    setSurvivors { tower in
      let alive = tower.hidden.filter { masks[$0] != 0 }
      return alive.count == tower.hidden.count ? nil : alive.map { $0 - tower.hidden.lowerBound }
    }
  }

  /// Puts the weights back. The gradients, until now those of masked weights, become those of the weights; returns the
  /// gradient of every mask.
  public func takeOff() -> [Double] {
    guard let masks = worn else { preconditionFailure("no masks are worn") }
    var gradient = [Double](repeating: 0, count: layout.count)
    for place in parameters where place.isScaled {
      let (rows, columns) = factors(of: place, masks)
      let (drows, dcolumns) = (slopes.0.tensor(rows.shape), slopes.1.tensor(columns.shape))
      fill(drows, 0)
      fill(dcolumns, 0)
      scaleRowsAndColumnsBackward(
        model.parameters.gradient(of: place.entry), x: weights.slice(place.entry.range), rows: rows, columns: columns,
        df: drows, dg: dcolumns)
      place.rows?.collect(drows, into: &gradient)
      place.columns?.collect(dcolumns, into: &gradient)
    }
    restore()
    return gradient
  }

  /// Puts the weights back and leaves gradients alone.
  public func restore() {
    for place in parameters where place.isScaled {
      copy(weights.slice(place.entry.range), into: model.parameters.value(of: place.entry))
    }
    setSurvivors { _ in nil }
    worn = nil
  }

  /// The sizes of the model without what these masks leave out.
  public func cutConfig(_ masks: [Double]) -> CLIPConfig { layout.cut(model.config, masks) }

  /// Fills a model of `cutConfig` with the masked weights of the units, heads and MLP units whose mask is not 0. It
  /// then computes what this one does under the masks. What is no tower's is taken over as it is.
  public func cut(_ masks: [Double], into small: CLIP<S>) {
    if model.parameters.bufferValues.count > 0 {
      copy(model.parameters.bufferValues, into: small.parameters.bufferValues)
    }
    wear(masks)
    for place in parameters {
      guard let target = small.parameters.entry(named: place.entry.name) else {
        preconditionFailure("the cut model has no \(place.entry.name)")
      }
      let (whole, part) = (model.parameters.value(of: place.entry), small.parameters.value(of: target))
      let shape = place.matrix
      let rows = place.rows?.kept(masks) ?? Array(0..<shape.rows)
      let columns = place.columns?.kept(masks) ?? Array(0..<shape.columns)
      precondition(part.count == rows.count * columns.count, "\(place.entry.name): \(part.shape) of \(whole.shape)")
      for (at, row) in rows.enumerated() {
        gatherColumns(
          whole.reshaped(shape).rows(row..<row + 1), columns,
          into: part.slice(at * columns.count..<(at + 1) * columns.count))
      }
    }
    restore()
  }

  private func setSurvivors(_ units: (TowerMasks) -> [Int]?) {
    for tower in layout.towers {
      let visual = (model.visual as? VisionTransformer<S>)?.survivors
      (tower.prefix.isEmpty ? model.text.survivors : visual)?.units = units(tower)
    }
  }

  private func factors(of place: MaskedParameter<S>, _ masks: [Double]) -> (Tensor<S>, Tensor<S>) {
    let shape = place.matrix
    let (a, b) = (factors.0.tensor(Shape(shape.rows)), factors.1.tensor(Shape(shape.columns)))
    fill(a, 1)
    fill(b, 1)
    place.rows?.spread(masks, over: a)
    place.columns?.spread(masks, over: b)
    return (a, b)
  }
}
