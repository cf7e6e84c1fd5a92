import Foundation
import Model
import ONNXFormat
import Tensor

/// A model's two towers as files of ONNX, whose outputs are unit embeddings.
///
/// `visual.onnx` reads `pixel_values`, normalised images [batch, 3, size, size] of 32-bit floats, and gives
/// `image_embeds` [batch, e]; `textual.onnx` reads `input_ids`, token ids [batch, sequence] of 64-bit integers, with a
/// sequence of at most the context, and gives `text_embeds` [batch, e]. Whatever follows the end of a text changes
/// nothing.
struct ONNXExport {
  static let image = "visual.onnx"
  static let text = "textual.onnx"
  let files: [ONNXFile]

  /// Builds the graphs. Throws a `UserError` for weights that these numbers cannot represent.
  init(_ model: CLIP<Float>, _ numbers: ONNXNumbers, mostEmbedded: Int = ONNXFile.mostEmbedded) throws {
    let config = model.config
    let weights = NamedWeights(model)
    // Of these two the files' metadata alone says something.
    for name in [CLIPConfig.logitScale, CLIPConfig.logitBias] where weights.contains(name) {
      _ = try weights.weight(name).finiteValues()
    }
    // The factor of cosines, and not its logarithm, which is the parameter.
    let scale = Float(exp(Double(model.logitScale.value[0])))
    let bias = config.initialLogitBias == nil ? nil : weights[CLIPConfig.logitBias][0]
    var metadata = ["logit_scale": "\(scale)", "type": numbers.rawValue]
    metadata["logit_bias"] = bias.map { "\($0)" }

    let visual = ONNXLayers(graph: ONNXGraph(), weights: weights, numbers: numbers)
    let size = ONNXSize.fixed(config.vision.imageSize)
    let images = visual.graph.input("pixel_values", .float, ["batch", 3, size, size])
    let imageFeatures =
      config.vision.stages == nil
      ? try visual.visionTransformer(images, config) : try visual.modifiedResNet(images, config.vision)
    visual.unitRows(imageFeatures, output: "image_embeds", width: config.embedding)

    let textual = ONNXLayers(graph: ONNXGraph(), weights: weights, numbers: numbers)
    let ids = textual.graph.input("input_ids", .int64, ["batch", "sequence"])
    let textFeatures = try textual.textTransformer(ids, config)
    textual.unitRows(textFeatures, output: "text_embeds", width: config.embedding)

    var words = metadata
    words["context_length"] = "\(config.text.contextLength)"
    files = [
      ONNXFile(name: Self.image, graph: visual.graph, metadata: metadata, mostEmbedded: mostEmbedded),
      ONNXFile(name: Self.text, graph: textual.graph, metadata: words, mostEmbedded: mostEmbedded),
    ]
  }

  /// The names of all files.
  var names: [String] { files.flatMap(\.names) }

  /// Writes all files into an existing folder.
  func write(to folder: URL) throws { for file in files { try file.write(to: folder) } }
}
