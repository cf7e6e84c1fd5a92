import Tensor

/// Which masks bear on a parameter, seen as a matrix: a vector is one row, a kernel has its outputs as rows.
struct MaskedParameter<S: Scalar> {
  /// Masks along an axis: each for `run` consecutive places, all of them `parts` times over.
  struct Axis {
    let masks: Range<Int>
    var run = 1
    var parts = 1

    func spread(_ values: [Double], over factors: Tensor<S>) {
      for index in 0..<factors.count { factors[index] = S(values[masks.lowerBound + index / run]) }
    }

    func collect(_ slopes: Tensor<S>, into gradient: inout [Double]) {
      for index in 0..<slopes.count { gradient[masks.lowerBound + index / run] += Double(slopes[index]) }
    }

    /// The places whose mask is not 0.
    func kept(_ values: [Double]) -> [Int] {
      (0..<parts * masks.count).filter { values[masks.lowerBound + $0 % masks.count] != 0 }
        .flatMap { $0 * run..<($0 + 1) * run }
    }
  }

  let entry: ParameterStore<S>.Entry
  let rows: Axis?
  let columns: Axis?
  /// Whether the masks multiply the parameter; others are only cut with what is masked away.
  let isScaled: Bool

  var matrix: Shape {
    let shape = entry.shape
    guard shape.rank > 1 else { return Shape(1, shape.count) }
    return Shape(shape[0], shape.count / shape[0])
  }

  init(_ entry: ParameterStore<S>.Entry, _ layout: MaskLayout) {
    self.entry = entry
    (rows, columns, isScaled) = Self.axes(entry.name, layout)
  }

  private static func axes(_ name: String, _ layout: MaskLayout) -> (Axis?, Axis?, Bool) {
    guard let tower = layout.towers.first(where: { $0.prefix.isEmpty != name.hasPrefix("visual.") })
    else { return (nil, nil, false) }
    let hidden = Axis(masks: tower.hidden)
    guard let place = BlockName(name) else {
      switch name.dropFirst(tower.prefix.count) {
      case "class_embedding", "positional_embedding", "token_embedding.weight": return (nil, hidden, true)
      case "conv1.weight": return (hidden, nil, true)
      case "proj", "text_projection": return (hidden, nil, false)
      case let rest where rest.hasPrefix("ln_"): return (nil, hidden, false)
      // The logit scale, and what an objective learns.
      default: return (nil, nil, false)
      }
    }
    let units = Axis(masks: tower.units[place.index])
    let heads = Axis(masks: tower.heads[place.index], run: tower.headWidth)
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
    default: preconditionFailure("no mask is known for \(name)")
    }
  }
}
