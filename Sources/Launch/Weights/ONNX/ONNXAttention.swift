import Model
import ONNXFormat
import Tensor

// b sequences of n tokens, w width, heads of d columns.

/// The rows of a transformer's last block that are read, one of each sequence; the others only give keys and values.
struct ONNXReadRows {
  /// Returns the row of each sequence, [b, n, w] → [b, 1, w].
  let pick: (ONNXValue) -> ONNXValue
  /// What is added to the scores of these rows [b, h, 1, n]; nil if they attend to all tokens.
  let mask: ONNXValue?
}

/// A stack of residual attention blocks (see `Transformer`).
struct ONNXTransformer {
  let layers: ONNXLayers
  /// The beginning of its parameters' names.
  let name: String
  let sizes: BlockSizes
  let activation: Activation
  /// What is added to all scores [b, h, n, n]; nil without a causal mask.
  let mask: ONNXValue?
  let read: ONNXReadRows

  /// x [b, n, w] → [b, 1, w], the rows that are read.
  func forward(_ x: ONNXValue) throws -> ONNXValue {
    let last = sizes.heads.count - 1
    return try (0...last).reduce(x) { try block($0, $1, read: $1 == last ? read : nil) }
  }

  /// x ← x + attn(ln_1(x)); x ← x + mlp(ln_2(x)) (see `ResidualAttentionBlock`).
  private func block(_ x: ONNXValue, _ index: Int, read: ONNXReadRows?) throws -> ONNXValue {
    let name = "\(name).resblocks.\(index)"
    let attended = try attention(layers.layerNorm(x, "\(name).ln_1"), "\(name).attn", sizes.heads[index], read)
    let middle = layers.sum(read?.pick(x) ?? x, attended)
    let hidden = try layers.linear(layers.layerNorm(middle, "\(name).ln_2"), "\(name).mlp.c_fc.")
    return layers.sum(middle, try layers.linear(layers.activation(hidden, activation), "\(name).mlp.c_proj."))
  }

  /// Self-attention of x [b, n, w], or of the rows that are read alone (see `SelfAttention`). `in_proj_weight` has the
  /// rows of all queries, then of all keys and of all values.
  private func attention(
    _ x: ONNXValue, _ name: String, _ heads: Int, _ read: ONNXReadRows?
  ) throws -> ONNXValue {
    let inner = heads * sizes.headWidth
    let (queries, others) = (0..<inner, inner..<3 * inner)
    var parts: [ONNXValue]
    if let read {
      parts = [try layers.linear(read.pick(x), "\(name).in_proj_", rows: queries)]
      parts += split(try layers.linear(x, "\(name).in_proj_", rows: others), into: 2, inner)
    } else {
      parts = split(try layers.linear(x, "\(name).in_proj_"), into: 3, inner)
    }
    let mixed = layers.attention(
      (parts[0], parts[1], parts[2]), heads: heads, headWidth: sizes.headWidth, mask: read == nil ? mask : read?.mask)
    return try layers.linear(mixed, "\(name).out_proj.")
  }

  /// Returns the columns of x in parts of `width`.
  private func split(_ x: ONNXValue, into count: Int, _ width: Int) -> [ONNXValue] {
    let widths = layers.graph.integers(Array(repeating: width, count: count))
    return layers.graph.nodes("Split", [x, widths], ["axis": -1], types: Array(repeating: x.type, count: count))
  }
}

extension ONNXLayers {
  /// softmax(q kᵀ/√d + mask) v of each head, for q [b, m, h d] and k, v [b, n, h d] → [b, m, h d]. Scores and softmax
  /// have 32 bits: a score of 20 would be off by a hundredth in 16, and so would its probability.
  func attention(
    _ parts: (q: ONNXValue, k: ONNXValue, v: ONNXValue), heads: Int, headWidth d: Int, mask: ONNXValue?
  ) -> ONNXValue {
    func split(_ x: ONNXValue, _ order: ONNXAttribute) -> ONNXValue {
      graph.node("Transpose", [graph.node("Reshape", [x, graph.integers([0, -1, heads, d])])], ["perm": order])
    }
    let q = split(cast(parts.q, to: .float), [0, 2, 1, 3])
    let k = split(cast(parts.k, to: .float), [0, 2, 3, 1])
    let v = split(parts.v, [0, 2, 1, 3])
    let scaled = graph.node("Mul", [q, graph.scalar(1 / Float(d).squareRoot(), .float)])
    var scores = graph.node("MatMul", [scaled, k])
    if let mask { scores = graph.node("Add", [scores, mask]) }
    let probabilities = graph.node("Softmax", [scores], ["axis": -1])
    let mixed = graph.node("MatMul", [cast(probabilities, to: v.type), v])
    let joined = graph.node("Transpose", [mixed], ["perm": [0, 2, 1, 3]])
    return graph.node("Reshape", [joined, graph.integers([0, -1, heads * d])])
  }
}
