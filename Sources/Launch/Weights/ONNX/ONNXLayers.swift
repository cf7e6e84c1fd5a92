import Model
import ONNXFormat
import Tensor

/// The numbers in which an exported model holds its weights and multiplies by them.
enum ONNXNumbers: String, CaseIterable {
  case fp32
  /// Products, convolutions and the table of token embeddings of 16 bits. Norms, softmaxes, the scores before them, the
  /// sums of residual branches, the final norm, the input and the output have 32.
  case fp16
  /// Weights of 8 bits with a scale for each output channel. Linear layers multiply them by activations that are
  /// quantized anew for each call; a ResNet's convolutions turn them into 32 bits again. Embeddings, norms, attention
  /// and the projection to the embedding have 32 bits.
  case int8
}

/// The layers of a tower as nodes of a graph, each beside the layer of `Model` with its formula.
struct ONNXLayers {
  let graph: ONNXGraph
  let weights: NamedWeights
  let numbers: ONNXNumbers

  /// The type of matrix products that are not quantized.
  var product: ONNXType { numbers == .fp16 ? .float16 : .float }

  /// Returns x in a type, which takes no node if it has that type already.
  func cast(_ x: ONNXValue, to type: ONNXType) -> ONNXValue {
    x.type == type ? x : graph.node("Cast", [x], ["to": .integer(type.rawValue)], type: type)
  }

  /// Returns a parameter, some of its rows or its transpose as an initializer.
  func parameter(_ weight: ONNXWeight, _ type: ONNXType) throws -> ONNXValue {
    graph.initializer(try weight.initializer(type))
  }

  func parameter(_ name: String, _ type: ONNXType = .float) throws -> ONNXValue {
    try parameter(weights.weight(name), type)
  }

  /// y = x Wᵀ + b, x [.., inputs] → [.., outputs], with the parameters `prefix`weight and `prefix`bias, or some of
  /// their rows (see `Linear`).
  func linear(_ x: ONNXValue, _ prefix: String, rows: Range<Int>? = nil) throws -> ONNXValue {
    let (weight, bias) = (weights.weight("\(prefix)weight", rows: rows), weights.weight("\(prefix)bias", rows: rows))
    let y = numbers == .int8 ? try quantizedProduct(x, weight) : try matrixProduct(x, weight.transposed)
    return graph.node("Add", [y, try parameter(bias, y.type)])
  }

  /// x [.., inputs] · W [inputs, outputs].
  func matrixProduct(_ x: ONNXValue, _ weight: ONNXWeight) throws -> ONNXValue {
    graph.node("MatMul", [cast(x, to: product), try parameter(weight, product)])
  }

  /// x Wᵀ ≈ s · t · (p Qᵀ) with x ≈ s (p − z), p from 0 to 255, for a scale s and a zero z that the call's x decides,
  /// and W ≈ t Q with a scale t for each output. onnxruntime multiplies p by Q, and takes z into account.
  ///
  /// Q goes from −64 to 64: without VNNI, x86 adds two products of 8 bits in 16, and 2 · 255 · 127 does not fit them.
  /// On an EPYC with AVX2, embeddings of the golden set with Q up to 127 were off by 0.05; with unsigned weights, which
  /// fit, onnxruntime 1.32 took 1.2 times as long (December 2026).
  private func quantizedProduct(_ x: ONNXValue, _ weight: ONNXWeight) throws -> ONNXValue {
    let quantized = try QuantizedWeight(weight, limit: 64)
    let (rows, columns) = (weight.rows, weight.columns)
    let matrix = graph.initializer(
      ONNXInitializer(name: "\(weight.name).T.int8", type: .int8, shape: [columns, rows]) {
        quantized.numbers.transposed(rows: rows, columns: columns).littleEndianBytes
      })
    let parts = graph.nodes("DynamicQuantizeLinear", [cast(x, to: .float)], types: [.uint8, .float, .uint8])
    let sums = graph.node("MatMulInteger", [parts[0], matrix, parts[2]], type: .int32)
    let scale = graph.node("Mul", [parts[1], scales(of: quantized, shape: [rows])])
    return graph.node("Mul", [cast(sums, to: .float), scale])
  }

  /// Returns the scales of a quantized weight as an initializer.
  func scales(of quantized: QuantizedWeight, shape: [Int]) -> ONNXValue {
    graph.initializer(
      ONNXInitializer(name: "\(quantized.weight.name).scale", type: .float, shape: shape) {
        quantized.scales.map(\.bitPattern).littleEndianBytes
      })
  }

  /// y = (x − μ)/√(σ² + ε) · weight + bias over the last axis, in 32 bits (see `LayerNorm`).
  func layerNorm(_ x: ONNXValue, _ name: String) throws -> ONNXValue {
    graph.node(
      "LayerNormalization", [cast(x, to: .float), try parameter("\(name).weight"), try parameter("\(name).bias")],
      ["axis": -1, "epsilon": 1e-5])
  }

  /// x Φ(x) = ½ x (1 + erf(x/√2)), or x σ(1.702 x) (see `Activation`). onnxruntime has one kernel for each.
  func activation(_ x: ONNXValue, _ function: Activation) -> ONNXValue {
    switch function {
    case .gelu:
      let error = graph.node("Erf", [graph.node("Div", [x, graph.scalar(Float(2).squareRoot(), x.type)])])
      let twice = graph.node("Mul", [x, graph.node("Add", [error, graph.scalar(1, x.type)])])
      return graph.node("Mul", [twice, graph.scalar(0.5, x.type)])
    case .quickGELU:
      return graph.node("Mul", [x, graph.node("Sigmoid", [graph.node("Mul", [x, graph.scalar(1.702, x.type)])])])
    }
  }

  /// x + branch, in the type of x.
  func sum(_ x: ONNXValue, _ branch: ONNXValue) -> ONNXValue { graph.node("Add", [x, cast(branch, to: x.type)]) }

  /// Returns the features x [b, 1, w] as the rows of [b, w].
  func rows(_ x: ONNXValue) -> ONNXValue { graph.node("Reshape", [x, graph.integers([0, -1])]) }

  /// Returns norm(x) · projection of x [b, w], the end of a transformer (see `TowerHead`).
  func head(_ x: ONNXValue, norm: String, projection: String) throws -> ONNXValue {
    try matrixProduct(layerNorm(x, norm), weights.weight(projection))
  }

  /// x / ‖x‖ of each row, in 32 bits; a row of zeros stays zero (see `unitRows`). It is the graph's output.
  func unitRows(_ x: ONNXValue, output name: String, width: Int) {
    let x = cast(x, to: .float)
    let length = graph.node("ReduceL2", [x], ["axes": [-1], "keepdims": 1])
    let positive = graph.node("Max", [length, graph.scalar(1e-12, .float)])
    graph.output(graph.node("Div", [x, positive], output: name), ["batch", .fixed(width)])
  }
}
