import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// What graphs compute by ONNX's specification, beside what their models compute.
@Suite struct ONNXValuesTests {
  let scene = ONNXScene()

  /// A wrong order or shape of anything would be off by tenths.
  @Test(arguments: [ONNXScene.transformer, ONNXScene.resNet, ONNXScene.pruned])
  func embeddingsAreTheModels(_ sizes: String) throws {
    let model = try ONNXScene.model(sizes)
    let (visual, textual) = try scene.export(model, to: "out")
    let size = model.config.vision.imageSize
    for count in [1, 3] {
      let images = Tensor<Float>.random(Shape(count, 3, size, size), "images")
      let deviation = try visual.deviation(from: model, images: images)
      #expect(deviation.relative <= 1e-4 && deviation.size > 0.1, "\(deviation)")
    }
    // Shorter captions end with padding, which changes nothing.
    let batches: [[[Int32]]] = [[[7, 8]], [[1, 8], [7, 2, 0, 3, 8], [5, 4, 8]]]
    for captions in batches {
      let deviation = try textual.deviation(from: model, captions: captions)
      #expect(deviation.relative <= 1e-4 && deviation.size > 0.1, "\(deviation)")
    }
  }
}

extension ONNXFound {
  /// Returns how far the embeddings of images that a graph with weights of 32 bits gives are from a model's.
  func deviation(from model: CLIP<Float>, images: Tensor<Float>) throws -> Deviation {
    let found = try output(of: ONNXArray(shape: images.shape.array, values: images.doubles))
    return Deviation(found.values, from: unitRows(model.visual.forward(images, mode: .evaluation)).doubles)
  }

  /// Returns how far the embeddings of captions, filled up with zeros, are from a model's.
  func deviation(from model: CLIP<Float>, captions: [[Int32]]) throws -> Deviation {
    let longest = captions.map(\.count).max() ?? 0
    let padded = captions.flatMap { $0 + [Int32](repeating: 0, count: longest - $0.count) }
    let found = try output(of: ONNXArray(shape: [captions.count, longest], values: padded.map { Double($0) }))
    let features = model.text.forward(TokenBatch(captions), mode: .evaluation)
    return Deviation(found.values, from: unitRows(features).doubles)
  }
}
