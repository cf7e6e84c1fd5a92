import Model
import ONNXFormat
import Tensor

// b images, w width, c = 32 w channels at the end, e embedding.

extension ONNXLayers {
  /// Returns the raw features [b, e] of normalised images [b, 3, size, size] (see `ModifiedResNet.forward`).
  func modifiedResNet(_ images: ONNXValue, _ config: VisionConfig) throws -> ONNXValue {
    var x = images
    for index in 1...3 {
      let layer = try normedConvolution(x, ("visual.conv\(index)", "visual.bn\(index)"), stride: index == 1 ? 2 : 1)
      x = graph.node("Relu", [layer])
    }
    x = averagePool(x)
    for (stage, blocks) in (config.stages ?? []).enumerated() {
      for block in 0..<blocks {
        x = try bottleneck(x, "visual.layer\(stage + 1).\(block)", halves: block == 0 && stage > 0)
      }
    }
    return try attentionPool(cast(pointRows(x, channels: config.outputWidth), to: .float), config)
  }

  /// Returns a block's output: 1 × 1, 3 × 3 and 1 × 1 convolutions beside a shortcut (see `Bottleneck.forward`).
  private func bottleneck(_ x: ONNXValue, _ name: String, halves: Bool) throws -> ONNXValue {
    func pooled(_ x: ONNXValue) -> ONNXValue { halves ? averagePool(x) : x }
    let y1 = graph.node("Relu", [try normedConvolution(x, ("\(name).conv1", "\(name).bn1"))])
    let y2 = graph.node("Relu", [try normedConvolution(y1, ("\(name).conv2", "\(name).bn2"))])
    let y3 = try normedConvolution(pooled(y2), ("\(name).conv3", "\(name).bn3"))
    let hasConvolution = weights.contains("\(name).downsample.0.weight")
    let shortcut =
      hasConvolution ? try normedConvolution(pooled(x), ("\(name).downsample.0", "\(name).downsample.1")) : x
    return graph.node("Relu", [sum(y3, shortcut)])
  }

  /// The means of 2 × 2 points; a last odd line or column is left out.
  private func averagePool(_ x: ONNXValue) -> ONNXValue {
    graph.node("AveragePool", [x], ["kernel_shape": [2, 2], "strides": [2, 2]])
  }

  /// A convolution with the batch norm behind it, of which it is a part: with s = weight/√(σ² + ε) of the running
  /// statistics, (K x − μ) s + bias = (s K) x + (bias − μ s).
  private func normedConvolution(
    _ x: ONNXValue, _ names: (convolution: String, norm: String), stride: Int = 1
  ) throws -> ONNXValue {
    let (kernel, bias) = folded(names)
    let (size, border) = (kernel.shape[2], kernel.shape[2] / 2)
    let operand = numbers == .int8 ? try dequantized(kernel) : try parameter(kernel, product)
    return graph.node(
      "Conv", [cast(x, to: product), operand, try parameter(bias, product)],
      [
        "kernel_shape": [size, size], "pads": [border, border, border, border], "strides": [stride, stride],
      ])
  }

  /// Returns s K and bias − μ s under the norm's name.
  private func folded(_ names: (convolution: String, norm: String)) -> (kernel: ONNXWeight, bias: ONNXWeight) {
    let variance = weights.statistic("\(names.norm).running_var")
    let mean = weights.statistic("\(names.norm).running_mean")
    let scale = zip(weights["\(names.norm).weight"].array, variance).map { Double($0) / ($1 + 1e-5).squareRoot() }
    let shift = zip(weights["\(names.norm).bias"].array, zip(mean, scale)).map { Double($0) - $1.0 * $1.1 }
    let kernel = weights.weight("\(names.convolution).weight")
    let columns = kernel.columns
    let part = "\(names.convolution).\(names.norm.split(separator: ".").last ?? "")"
    let weight = ONNXWeight(name: "\(part).weight", shape: kernel.shape) {
      kernel.values().enumerated().map { Float(Double($1) * scale[$0 / columns]) }
    }
    return (weight, ONNXWeight(name: "\(part).bias", shape: [shift.count]) { shift.map { Float($0) } })
  }

  /// Returns a kernel of 8 bits as one of 32. onnxruntime computes Cast and Mul when it loads the model, so that the
  /// convolution is as fast as with 32 bits; it would repeat a DequantizeLinear in every call.
  private func dequantized(_ kernel: ONNXWeight) throws -> ONNXValue {
    let quantized = try QuantizedWeight(kernel, limit: 127)
    let numbers = graph.initializer(
      ONNXInitializer(name: "\(kernel.name).int8", type: .int8, shape: kernel.shape) {
        quantized.numbers.littleEndianBytes
      })
    return graph.node("Mul", [cast(numbers, to: .float), scales(of: quantized, shape: [kernel.rows, 1, 1, 1])])
  }

  /// Returns the features [b, e] of points [b, g², c]: their mean precedes them as a token, positions are added, and
  /// that token attends to all (see `AttentionPool`).
  private func attentionPool(_ points: ONNXValue, _ config: VisionConfig) throws -> ONNXValue {
    let name = "visual.attnpool"
    let mean = graph.node("ReduceMean", [points], ["axes": [1], "keepdims": 1])
    let tokens = graph.node("Concat", [mean, points], ["axis": 1])
    let x = graph.node("Add", [tokens, try parameter("\(name).positional_embedding")])
    let query = try linear(firstRows(x), "\(name).q_proj.")
    let (key, value) = (try linear(x, "\(name).k_proj."), try linear(x, "\(name).v_proj."))
    let attended = attention((query, key, value), heads: config.heads, headWidth: config.headWidth, mask: nil)
    return rows(try linear(attended, "\(name).c_proj."))
  }
}
