import ArgumentParser
import Foundation
import Model
import Tensor

/// `kinship weights import` converts a model of another program to the form that Kinship reads.
struct WeightsImport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import",
    abstract: "Converts a CLIP model's files to open_clip_model.safetensors and open_clip_config.json.",
    discussion: """
      The input is a file of weights, or a folder with one by its usual name: safetensors in open_clip's form or in \
      that of Hugging Face's CLIPModel (in one file, or in several with their index), or a PyTorch checkpoint (.pt, \
      .pth, .bin: what torch.save writes since version 1.6, a state dict bare or under state_dict, with or without \
      module. before its names). A checkpoint is never executed: it may describe tensors, and is refused if it asks \
      for anything else.

      Names, shapes and types are compared with the model's sizes, and every difference is listed. The sizes and the \
      activation come from open_clip_config.json or config.json beside the weights, from --config, or from --preset. \
      The weights do not show which activation they were trained with: some of LAION's and OpenAI's ViT-B-32, for \
      example, need --preset ViT-B-32-quickgelu.

      Numbers become 32-bit floats; 16-bit ones keep their value.

      Example:

        kinship weights import model.pt --preset ViT-B-32 --output models/b32
      """)

  @Argument(help: ArgumentHelp("The file of weights, or its folder.", valueName: "input")) var input: String

  @OptionGroup var folder: ModelFolder

  @OptionGroup var options: WeightsOptions

  @Option(
    help: ArgumentHelp(
      "Resizes the positions of a vision transformer, as open_clip does, to images of this many pixels a side.",
      valueName: "n"))
  var imageSize: Int?

  func run() throws {
    guard Machine.isFirstRank else { return }
    let source = try ForeignModel(input, config: options.config, preset: options.preset)
    var model = try source.load()
    var preprocessing = source.preprocessing
    if let imageSize {
      model = try model.resized(to: imageSize)
      preprocessing.size = imageSize
    }
    let target = try folder.make(for: [ModelFiles.weights, ModelFiles.config])
    try ModelFiles.write(model, preprocessing: preprocessing, to: target)
    print(
      """
      \(source.path): \(source.form.title), sizes from \(source.source)
      \(ModelSummary(model.config).text)
      \(target.relativePath): \(ModelFiles.weights), \(ModelFiles.config)
      """)
  }
}
