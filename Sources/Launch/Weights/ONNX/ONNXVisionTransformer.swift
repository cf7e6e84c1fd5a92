import Model
import ONNXFormat

// b images of g × g patches, n = 1 + g² tokens of an image, w width, e embedding.

extension ONNXLayers {
  /// Returns the raw features [b, e] of normalised images [b, 3, size, size] (see `VisionTransformer.forward`).
  func visionTransformer(_ images: ONNXValue, _ model: CLIPConfig) throws -> ONNXValue {
    let (config, w) = (model.vision, model.vision.width)
    let (patch, kernel) = (config.patchSize, try parameter("visual.conv1.weight", product))
    let patches = graph.node(
      "Conv", [cast(images, to: product), kernel], ["kernel_shape": [patch, patch], "strides": [patch, patch]])
    let rows = cast(pointRows(patches, channels: w), to: .float)
    let tokens = graph.node("Concat", [try classRows(of: images, width: w), rows], ["axis": 1])
    let embedded = graph.node("Add", [tokens, try parameter("visual.positional_embedding")])
    // Of the last block the head reads the class tokens alone.
    let z = try ONNXTransformer(
      layers: self, name: "visual.transformer", sizes: config.blockSizes, activation: model.activation, mask: nil,
      read: ONNXReadRows(pick: firstRows, mask: nil)
    ).forward(layerNorm(embedded, "visual.ln_pre"))
    return try head(self.rows(z), norm: "visual.ln_post", projection: "visual.proj")
  }

  /// Returns the points of images [b, c, g, g] as rows [b, g², c].
  func pointRows(_ x: ONNXValue, channels: Int) -> ONNXValue {
    graph.node("Transpose", [graph.node("Reshape", [x, graph.integers([0, channels, -1])])], ["perm": [0, 2, 1]])
  }

  /// Returns the first row of each sequence, [b, n, w] → [b, 1, w].
  func firstRows(_ x: ONNXValue) -> ONNXValue {
    graph.node("Slice", [x, graph.integers([0]), graph.integers([1]), graph.integers([1])])
  }

  /// Returns the class embedding once for each image, [b, 1, w].
  private func classRows(of images: ONNXValue, width: Int) throws -> ONNXValue {
    let sizes = graph.node("Shape", [images], type: .int64)
    let batch = graph.node("Slice", [sizes, graph.integers([0]), graph.integers([1])])
    let shape = graph.node("Concat", [batch, graph.integers([1, width])], ["axis": 0])
    return graph.node("Expand", [try parameter("visual.class_embedding"), shape])
  }
}
