import Model
import ONNXFormat
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Weights of 16 and 8 bits, and convolutions with their norms, beside plain references.
@Suite struct ONNXNumbersTests {
  let scene = ONNXScene()

  @Test func halvesAreRoundedToNearest() throws {
    let model = try ONNXScene.model(ONNXScene.transformer)
    let weights = NamedWeights(model)
    let (visual, textual) = try scene.export(model, .fp16, to: "out")
    for (found, name) in [
      (visual, "visual.conv1.weight"), (visual, "visual.proj"), (textual, "text_projection"),
      (textual, CLIPConfig.tokenEmbedding),
    ] {
      #expect(try found.tensor(name).dataType == 10)
      for (half, value) in zip(try found.halves(name), weights[name].array) {
        // Numbers below 1 lie within half of 2⁻¹¹ of their half.
        #expect(abs(half - value) <= 0x1p-12, "\(name): \(half) for \(value)")
      }
    }
    // Norms and positions keep 32 bits.
    #expect(try visual.floats("visual.ln_pre.weight") == weights["visual.ln_pre.weight"].array)
    #expect(try textual.floats("positional_embedding") == weights["positional_embedding"].array)
    #expect(visual.operations.contains("Cast"))
  }

  /// Each output channel has the scale max |w| / 64, and each weight the nearest multiple of it.
  @Test func linearWeightsHaveAScaleForEachOutput() throws {
    let model = try ONNXScene.model(ONNXScene.transformer)
    let name = "visual.transformer.resblocks.0.attn.in_proj_weight"
    let weight = NamedWeights(model)[name]
    // A channel of zeros has a scale too.
    for column in 0..<8 { weight[8 + column] = 0 }
    let (visual, _) = try scene.export(model, .int8, to: "out")
    #expect(try visual.sizes("\(name).T.int8") == [8, 24])
    #expect(try visual.tensor("\(name).T.int8").dataType == 3)
    #expect(try visual.sizes("\(name).scale") == [24])
    let (numbers, scales) = (try visual.int8s("\(name).T.int8"), try visual.floats("\(name).scale"))
    for row in 0..<24 {
      let values = (0..<8).map { weight[row * 8 + $0] }
      var largest: Float = 0
      for value in values { largest = max(largest, abs(value)) }
      #expect(scales[row] == (largest > 0 ? largest / 64 : 1))
      for (column, value) in values.enumerated() {
        let number = numbers[column * 24 + row]
        #expect(abs(number) <= 64)
        #expect(abs(Float(number) * scales[row] - value) <= scales[row] * 0.5001, "\(row), \(column)")
      }
    }
    // Embeddings, norms and the last projection keep 32 bits.
    for other in ["visual.conv1.weight", "visual.positional_embedding", "visual.ln_post.weight", "visual.proj"] {
      #expect(try visual.floats(other) == NamedWeights(model)[other].array, "\(other)")
    }
    #expect(visual.operations.filter { $0 == "DynamicQuantizeLinear" }.count == 2 * 4 + 1)
  }

  /// Numbers between multiples go to the nearest, halves to the even one, and the largest to ±limit.
  @Test func roundsToNearestEven() throws {
    // A subnormal number, whose scale would be 0.
    let least = Float.leastNonzeroMagnitude
    let rows: [Float] = [4, 1, 3, -0.5, 0, 0, 0, 0, least, 0, 0, 0]
    let quantized = try QuantizedWeight(ONNXWeight(name: "w", shape: [3, 4]) { rows }, limit: 2)
    #expect(quantized.scales == [2, 1, 1])
    #expect(quantized.numbers == [2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0])
  }

  /// A convolution and its norm are one convolution of the same outputs.
  @Test func convolutionsContainTheirNorms() throws {
    let model = try ONNXScene.model(ONNXScene.resNet)
    let weights = NamedWeights(model)
    for buffer in model.parameters.buffers where !buffer.isCount {
      let value = model.parameters.value(of: buffer)
      for index in 0..<value.count { value[index] = 0.5 + Double(index) / 8 }
    }
    let (visual, _) = try scene.export(model, to: "out")
    let (eighth, _) = try scene.export(model, .int8, to: "eighth")
    let (convolution, norm) = ("visual.layer2.0.conv2", "visual.layer2.0.bn2")
    let kernel = weights["\(convolution).weight"]
    let folded = try visual.floats("\(convolution).bn2.weight")
    let shift = try visual.floats("\(convolution).bn2.bias")
    let (numbers, scales) = (
      try eighth.int8s("\(convolution).bn2.weight.int8"), try eighth.floats("\(convolution).bn2.weight.scale")
    )
    #expect(try visual.sizes("\(convolution).bn2.weight") == kernel.shape.array)
    #expect(try eighth.sizes("\(convolution).bn2.weight.scale") == [kernel.shape[0], 1, 1, 1])
    let columns = kernel.count / kernel.shape[0]
    for row in 0..<kernel.shape[0] {
      let (mean, variance) = (0.5 + Double(row) / 8, 0.5 + Double(row) / 8)
      let scale = Double(weights["\(norm).weight"][row]) / (variance + 1e-5).squareRoot()
      let bias = Double(weights["\(norm).bias"][row]) - mean * scale
      #expect(abs(Double(shift[row]) - bias) < 1e-6)
      for column in 0..<columns {
        let at = row * columns + column
        let expected = Double(kernel[at]) * scale
        #expect(abs(Double(folded[at]) - expected) < 1e-6)
        #expect(abs(Double(numbers[at]) * Double(scales[row]) - expected) < Double(scales[row]) * 0.51)
      }
    }
  }
}
