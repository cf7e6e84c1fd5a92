import ArgumentParser
import Dist
import Foundation
import Model
import Tensor

struct WeightsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "weights", abstract: "Imports and exports weights of CLIP models, and shows what a file contains.",
    discussion: help(example: "kinship weights import models/hub/clip-vit-large-patch14 --output models/l14"),
    subcommands: [WeightsImport.self, WeightsExport.self, WeightsInspect.self])
}

struct WeightsInspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Shows the tensors of a file of weights, and whether they fit the sizes beside it.",
    discussion: help(
      """
      It reads and checks the same files as import; if sizes are given or lie beside the file, it lists every \
      difference.
      """, example: "kinship weights inspect models/b32"))

  @Argument(help: "The file of weights, or its folder.") var input: String
  @OptionGroup var options: WeightsOptions

  func run() throws {
    guard Machine.isFirstRank else { return }
    try StandardOutput.print(WeightsReport(input, config: options.config, preset: options.preset).text)
  }
}

/// The options that name the sizes of a model's weights.
struct WeightsOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("The JSON file with the model's sizes. Default: the one beside the weights.", valueName: "file"))
  var config: String?
  @Option(
    help: ArgumentHelp(
      "The preset of the model's sizes, where no file gives them; NAME-quickgelu for QuickGELU.", valueName: "name"))
  var preset: String?

  func validate() throws {
    try require(config == nil || preset == nil, "--config and --preset both say the model's sizes; leave one out")
  }
}

/// A folder to which a model is written, and which must not hold one yet.
struct ModelFolder: ParsableArguments {
  @Option(name: .shortAndLong, help: ArgumentHelp("The folder to write; it is created.", valueName: "folder"))
  var output: String

  /// Makes the folder and returns it. A folder that has a file with one of these names is refused.
  func make(for names: [String]) throws -> URL {
    let folder = URL(filePath: output, directoryHint: .isDirectory)
    let paths = names.map { folder.appending(path: $0).relativePath }
    if let path = paths.first(where: FileManager.default.fileExists(atPath:)) {
      throw UserError(path, "is there already; remove it, or name another folder", status: .usage)
    }
    try Publish.makeFolder(output)
    return folder
  }
}

struct WeightsImport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import",
    abstract: "Converts a CLIP model's files to open_clip_model.safetensors and open_clip_config.json.",
    discussion: help(
      """
      The input is a file of weights, or a folder with one by its usual name: safetensors in open_clip's form or in \
      that of Hugging Face's CLIPModel (in one file, or in several with their index), or a PyTorch checkpoint (.pt, \
      .pth, .bin: what torch.save writes since version 1.6, a state dict bare or under state_dict). A checkpoint is \
      never executed: it may describe tensors, and is refused if it asks for anything else. In any of these, module., \
      _orig_mod. and model. within names, and text. before them, are left out.

      Names, shapes and types are compared with the model's sizes, and every difference is listed. The sizes and the \
      activation come from open_clip_config.json or config.json beside the weights, from --config, or from --preset. \
      The weights do not show which activation they were trained with: some of LAION's and OpenAI's ViT-B-32, for \
      example, need --preset ViT-B-32-quickgelu.

      Numbers become 32-bit floats; 16-bit ones keep their value. preprocess_cfg stays as it is; of Hugging Face's \
      preprocessor_config.json it has what open_clip can say.
      """, example: "kinship weights import model.pt --preset ViT-B-32 --output models/b32"))

  @Argument(help: "The file of weights, or its folder.") var input: String
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
    var (preprocessing, preprocessConfig) = (source.preprocessing, source.preprocessConfig)
    if let imageSize {
      model = try model.resized(to: imageSize)
      preprocessing.size = imageSize
      preprocessConfig?["size"] = imageSize
    }
    let target = try folder.make(for: [ModelFiles.weights, ModelFiles.config])
    try ModelFiles.write(model, preprocessing: preprocessing, keeping: preprocessConfig, to: target)
    try StandardOutput.print(
      """
      \(source.path): \(source.form.title), sizes from \(source.source)
      \(model.config.summary)
      \(target.relativePath): \(ModelFiles.weights), \(ModelFiles.config)
      """)
  }
}

struct WeightsExport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "Writes a model as open_clip or Hugging Face read it.",
    discussion: help(
      """
      open_clip reads open_clip_model.safetensors and open_clip_config.json (create_model with local-dir:FOLDER); \
      Hugging Face's CLIPModel.from_pretrained reads model.safetensors and config.json, and CLIPImageProcessor \
      preprocessor_config.json. Vocabularies are not converted: with CLIP's own, use CLIP's own tokenizer.

      Hugging Face has no form for a ResNet or a pruned model, and open_clip has none for a pruned model.
      """, example: "kinship weights export runs/mine --form hugging_face --output models/mine"))

  @Argument(help: "A run's folder (its latest checkpoint; RUN/best: its best), a checkpoint's, or what import takes.")
  var input: String
  @OptionGroup var folder: ModelFolder
  @Option(help: "The form to write: \(WeightsForm.allCases.map(\.rawValue).joined(separator: " or ")).")
  var form = WeightsForm.openCLIP
  @OptionGroup var options: WeightsOptions
  @Flag(help: "Writes the moving average of the weights of a run or checkpoint (ema in its run file).")
  var emaWeights = false

  func run() throws {
    try Job.perform { communicator in
      let (model, preprocessing, preprocessConfig) = try load(over: communicator)
      guard communicator.rank == 0 else { return }
      let written: [String]
      switch form {
      case .openCLIP:
        written = [ModelFiles.weights, ModelFiles.config]
        try ModelFiles.write(
          model, preprocessing: preprocessing, keeping: preprocessConfig, to: folder.make(for: written))
      case .huggingFace:
        written = [HuggingFaceFiles.weights, HuggingFaceFiles.config, HuggingFaceFiles.preprocessor]
        // These throw for a model without a form of Hugging Face's, before the folder is made.
        _ = try model.config.huggingFaceJSON
        _ = try preprocessing.huggingFaceProcessor
        try HuggingFaceFiles.write(model, preprocessing: preprocessing, to: folder.make(for: written))
      }
      try StandardOutput.print("\(model.config.summary)\n\(folder.output): \(written.joined(separator: ", "))")
    }
  }

  private func load(over communicator: Communicator) throws -> (CLIP<Float>, ImageOptions, [String: Any]?) {
    if TrainedModel.isOne(input) {
      guard options.config == nil, options.preset == nil else {
        throw UserError(input, "a checkpoint says its sizes itself; leave --config and --preset out", status: .usage)
      }
      let trained = try TrainedModel(input, averaged: emaWeights, over: communicator)
      return (trained.model, trained.saved.image, nil)
    }
    guard !emaWeights else {
      throw UserError(input, "--ema-weights belongs to a run or a checkpoint; leave it out", status: .usage)
    }
    let source = try ForeignModel(input, config: options.config, preset: options.preset)
    return (try source.load(), source.preprocessing, source.preprocessConfig)
  }
}

extension WeightsForm: ExpressibleByArgument {}
