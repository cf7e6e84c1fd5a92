public import Tensor

/// A model to which masks can be applied. A mask multiplies an activation: a hidden unit after the positional embedding
/// is added and at the end of both branches of every block, a head before the output projection, or an MLP unit after
/// its activation function. Each of these is linear in the weights just before or after it, so the masks multiply
/// weights instead, once a step. With the masks z of the hidden units:
///
///     embeddings, positions: x_j z_j      out_proj: z_j W_jc z_head(c), z_j b_j      c_proj: z_j W_jm z_m, z_j b_j
///
/// This is the same function with the same gradients, it changes no layer but layer norm (which must skip units that
/// are 0), and the cut model will have these weights. `apply` puts them into the model's parameters, for any number of
/// forward and backward passes; `remove` puts the weights without masks back.
public final class MaskedModel<S: Scalar> {
  public let model: CLIP<S>
  public let layout: MaskLayout
  private let parameters: [MaskedParameter<S>]
  /// The weights without masks, in the layout of the parameters, while masks are applied.
  private let weights: Tensor<S>
  private var applied: [Double]?
  private let (factors, slopes) = ((Buffer<S>(), Buffer<S>()), (Buffer<S>(), Buffer<S>()))

  public init(_ model: CLIP<S>, _ layout: MaskLayout) {
    (self.model, self.layout) = (model, layout)
    parameters = model.parameters.entries.map { MaskedParameter($0, layout) }
    weights = Tensor(Shape(model.parameters.count))
  }

  /// Multiplies the masks, in the layout's order, into the model's parameters. Masks of 1 do not change a bit.
  public func apply(_ masks: [Double]) {
    precondition(applied == nil && masks.count == layout.count, "\(masks.count) masks for \(layout.count)")
    applied = masks
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

  /// Puts the weights back, turns the gradients of the masked weights into theirs, and returns that of every mask.
  public func remove() -> [Double] {
    guard let masks = applied else { preconditionFailure("no masks are applied") }
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

  /// Puts the weights back without changing the gradients.
  public func restore() {
    for place in parameters where place.isScaled {
      copy(weights.slice(place.entry.range), into: model.parameters.value(of: place.entry))
    }
    setSurvivors { _ in nil }
    applied = nil
  }

  /// Returns the sizes of the model after everything whose mask is 0 is removed.
  public func cutConfig(_ masks: [Double]) -> CLIPConfig { layout.cut(model.config, masks) }

  /// Fills a model of `cutConfig` with the weights whose mask is not 0: it computes what this one does under the masks.
  public func cut(_ masks: [Double], into small: CLIP<S>) {
    let buffers = model.parameters.bufferValues
    if buffers.count > 0 { copy(buffers, into: small.parameters.bufferValues) }
    apply(masks)
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

  /// Tells the layer norms of each tower which of its units are left, [≤ width]; nil means all of them.
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
    place.rows?.broadcast(masks, over: a)
    place.columns?.broadcast(masks, over: b)
    return (a, b)
  }
}

/// A parameter and the masks of its rows and columns. A vector is a matrix of one row; a kernel's rows are its outputs.
struct MaskedParameter<S: Scalar> {
  /// The masks along an axis: each applies to `run` consecutive indices, and the whole sequence repeats `parts` times.
  struct Axis {
    let masks: Range<Int>
    var run = 1
    var parts = 1

    func broadcast(_ values: [Double], over factors: Tensor<S>) {
      for index in 0..<factors.count { factors[index] = S(values[masks.lowerBound + index / run]) }
    }

    func collect(_ slopes: Tensor<S>, into gradient: inout [Double]) {
      for index in 0..<slopes.count { gradient[masks.lowerBound + index / run] += Double(slopes[index]) }
    }

    func kept(_ values: [Double]) -> [Int] {
      (0..<parts * masks.count).filter { values[masks.lowerBound + $0 % masks.count] != 0 }
        .flatMap { $0 * run..<($0 + 1) * run }
    }
  }

  let entry: NamedSlice
  let rows: Axis?
  let columns: Axis?
  /// True if the masks multiply the parameter. Others are only cut.
  let isScaled: Bool
  let matrix: Shape

  init(_ entry: NamedSlice, _ layout: MaskLayout) {
    self.entry = entry
    let height = entry.shape.rank > 1 ? entry.shape[0] : 1
    matrix = Shape(height, entry.shape.count / height)
    (rows, columns, isScaled) = Self.axes(entry.name, layout)
  }

  private static func axes(_ name: String, _ layout: MaskLayout) -> (Axis?, Axis?, Bool) {
    guard let tower = layout.towers.first(where: { $0.prefix.isEmpty != name.hasPrefix("visual.") })
    else { return (nil, nil, false) }
    let hidden = Axis(masks: tower.hidden)
    guard let place = BlockName(name) else {
      switch name.dropFirst(tower.prefix.count) {
      case "class_embedding", "positional_embedding", CLIPConfig.tokenEmbedding: return (nil, hidden, true)
      case "conv1.weight": return (hidden, nil, true)
      case "proj", "text_projection": return (hidden, nil, false)
      case let rest where rest.hasPrefix("ln_"): return (nil, hidden, false)
      // The logit scale and bias, and the parameters of the objective.
      default: return (nil, nil, false)
      }
    }
    let units = Axis(masks: tower.units[place.index])
    let heads = Axis(masks: tower.heads[place.index], run: tower.blocks.headWidth)
    let qkv = Axis(masks: heads.masks, run: heads.run, parts: 3)
    switch place.rest {
    case "attn.in_proj_weight": return (qkv, hidden, false)
    case "attn.in_proj_bias": return (nil, qkv, false)
    case "attn.out_proj.weight": return (hidden, heads, true)
    case "mlp.c_fc.weight": return (units, hidden, false)
    case "mlp.c_fc.bias": return (nil, units, false)
    case "mlp.c_proj.weight": return (hidden, units, true)
    case "attn.out_proj.bias", "mlp.c_proj.bias": return (nil, hidden, true)
    case let rest where rest.hasPrefix("ln_"): return (nil, hidden, false)
    default: preconditionFailure("unknown parameter of a block: \(name)")
    }
  }
}
