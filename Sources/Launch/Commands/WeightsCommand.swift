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
    commandName: "export", abstract: "Writes a model as a folder that open_clip, Hugging Face or onnxruntime read.",
    discussion: help(
      """
      open_clip reads open_clip_model.safetensors and open_clip_config.json (create_model_and_transforms with \
      local-dir:FOLDER); Hugging Face's CLIPModel and CLIPProcessor read model.safetensors, config.json, \
      preprocessor_config.json and tokenizer.json, which open_clip also takes for a vocabulary of your own. README.md \
      is a model card with data, teacher, objective, steps and figures of the run; its licences are left to fill in. \
      Nothing is uploaded.

      Hugging Face has no form for a ResNet or a pruned model, and open_clip cannot build a pruned model. Without \
      --form such a model gets open_clip's files alone.

      --form onnx writes any of our models as visual.onnx and textual.onnx, whose outputs are embeddings of length 1, \
      with preprocessor_config.json and tokenizer.json. Weights of over 256 MiB lie beside them in files that end in \
      .data. With --type int8 only the linear layers compute with 8 bits; embeddings then depend a little on what else \
      is in a batch.
      """, example: "kinship weights export runs/mine --output models/mine"))

  @Argument(help: "A run's folder (its latest checkpoint; RUN/best: its best), a checkpoint's, or what import takes.")
  var input: String
  @OptionGroup var folder: ModelFolder
  @Option(help: "The form to write: \(ExportForm.allCases.map(\.rawValue).joined(separator: ", ")). Default: both.")
  var form: ExportForm?
  @Option(
    help: ArgumentHelp(
      "The weights of --form onnx: \(ONNXNumbers.allCases.map(\.rawValue).joined(separator: ", ")). Default: fp32.",
      valueName: "type"))
  var type: ONNXNumbers?
  @OptionGroup var options: WeightsOptions
  @Option(
    help: ArgumentHelp(
      "The vocabulary file, for tokenizer.json. Default: that of the run; other models have none.", valueName: "file"))
  var vocabulary: String?
  @Flag(help: "Writes the moving average of the weights of a run or checkpoint (ema in its run file).")
  var emaWeights = false

  func validate() throws {
    try require(type == nil || form == .onnx, "--type belongs to --form onnx; add it, or leave --type out")
  }

  func run() throws {
    try Job.perform { communicator in
      let export = try ModelExport(
        input, options, vocabulary: vocabulary, averaged: emaWeights, over: communicator)
      guard communicator.rank == 0 else { return }
      let (names, notes) = try export.write(form, type ?? .fp32, to: folder)
      let lines = [export.model.config.summary, "\(folder.output): \(names.joined(separator: ", "))"] + notes
      try StandardOutput.print(lines.joined(separator: "\n"))
    }
  }
}

extension ExportForm: ExpressibleByArgument {}
extension ONNXNumbers: ExpressibleByArgument {}
