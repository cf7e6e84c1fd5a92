import Model
import ONNXFormat

// b captions of n tokens, w width, e embedding.

extension ONNXLayers {
  /// Returns the raw features [b, e] of token ids [b, n] (see `TextTransformer.forward`). The row that is read is that
  /// of the first occurrence of the largest id, the end of text of every vocabulary of ours; with a causal mask,
  /// nothing that follows it matters.
  func textTransformer(_ ids: ONNXValue, _ model: CLIPConfig) throws -> ONNXValue {
    let sizes = graph.node("Shape", [ids], type: .int64)
    let length = graph.node("Gather", [sizes, graph.integer(1)], ["axis": 0])
    // 0, 1, … n − 1. A caption longer than the context is an error of this lookup.
    let places = graph.node("Range", [graph.integer(0), length, graph.integer(1)])
    // With 16 bits the table has them too: it is the largest parameter of most students.
    let words = graph.node("Gather", [try parameter(CLIPConfig.tokenEmbedding, product), ids], ["axis": 0])
    let positions = graph.node("Gather", [try parameter("positional_embedding"), places], ["axis": 0])
    let ends = graph.node("ArgMax", [ids], ["axis": 1, "keepdims": 1])
    let read = graph.node("Unsqueeze", [ends, graph.integers([2])])
    // The last block, which may be the only one, has the mask of the rows that are read.
    let isDeep = model.text.layers > 1
    let z = try ONNXTransformer(
      layers: self, name: "transformer", sizes: model.text.blockSizes, activation: model.activation,
      mask: isDeep ? causalMask(places, rows: graph.node("Unsqueeze", [places, graph.integers([1])])) : nil,
      read: ONNXReadRows(
        pick: { graph.node("GatherND", [$0, read], ["batch_dims": 1]) },
        mask: causalMask(places, rows: graph.node("Unsqueeze", [ends, graph.integers([1, 2])])))
    ).forward(graph.node("Add", [cast(words, to: .float), positions]))
    return try head(rows(z), norm: "ln_final", projection: "text_projection")
  }

  /// Returns what is added to the scores of keys at the places [n] for rows at their own places [.., 1]: −∞ for keys
  /// behind the row, else 0.
  private func causalMask(_ places: ONNXValue, rows: ONNXValue) -> ONNXValue {
    let isLater = graph.node("Greater", [places, rows], type: .bool)
    return graph.node(
      "Where", [isLater, graph.scalar(-.infinity, .float), graph.scalar(0, .float)], type: .float)
  }
}
