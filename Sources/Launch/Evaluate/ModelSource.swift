import ArgumentParser
import Dist
import Foundation
import Model
import Tensor

/// Where the model of an evaluation comes from.
struct ModelSource: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The model: a safetensors file with open_clip's names (then with --model and --vocabulary).", valueName: "path"))
  var checkpoint: String

  @Option(help: "For a safetensors file: the preset or .json file with the model's sizes.")
  var model: String?

  @Option(help: "The vocabulary file.")
  var vocabulary: String?

  /// Every rank must call it.
  func load(over communicator: Communicator) throws -> (embedder: CLIPEmbedder, step: Int?) {
    guard let model, let choice = ModelConfig.shorthand(model), let vocabulary else {
      throw EvaluationError.noModel(path: checkpoint, reason: "--model and --vocabulary are needed with it")
    }
    let file = try SafetensorsFile(checkpoint)
    let words = try Vocabulary(contentsOf: vocabulary)
    let config = try choice.resolved()
    guard config.text.vocabularySize == words.size else {
      throw EvaluationError.noModel(
        path: checkpoint,
        reason: "its model has \(config.text.vocabularySize) tokens and \(vocabulary) has \(words.size); "
          + "give the vocabulary that it was trained with")
    }
    let clip = CLIP<Float>(config, frozen: true)
    try Self.fill(clip.parameters, from: file)
    var image = ImageOptions()
    image.size = config.vision.imageSize
    let tokenizer = BytePairTokenizer(vocabulary: words, context: config.text.contextLength)
    return (CLIPEmbedder(clip, image: image, tokenizer: tokenizer), nil)
  }

  /// Reads every parameter by its name; the file must have these and no others, in these shapes.
  private static func fill(_ parameters: ParameterStore<Float>, from file: SafetensorsFile) throws {
    var wrong: [String] = []
    for entry in parameters.entries {
      guard file.contains(entry.name) else {
        wrong.append("\(entry.name) is missing")
        continue
      }
      let shape = try file.shape(of: entry.name)
      guard shape == entry.shape || (shape.count == 1 && entry.shape.count == 1) else {
        wrong.append("\(entry.name) is \(shape), expected \(entry.shape)")
        continue
      }
      try file.read(entry.name, into: parameters.value(of: entry))
    }
    let known = Set(parameters.entries.map(\.name))
    wrong += file.names.filter { !known.contains($0) }.map { "\($0) is no parameter of this model" }
    guard wrong.isEmpty else {
      let more = wrong.count > 8 ? "; and \(wrong.count - 8) more" : ""
      throw EvaluationError.noModel(
        path: file.path, reason: wrong.prefix(8).joined(separator: "; ") + more + "; is --model the right one?")
    }
  }
}
