import ArgumentParser
import Dist
import Foundation
import Model
import Tensor

/// `kinship weights export` writes a model in the form of another program.
struct WeightsExport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Writes a model as open_clip or Hugging Face read it.",
    discussion: """
      open_clip reads open_clip_model.safetensors and open_clip_config.json (create_model with local-dir:FOLDER); \
      Hugging Face's CLIPModel.from_pretrained reads model.safetensors and config.json, and CLIPImageProcessor \
      preprocessor_config.json. Vocabularies are not converted: with CLIP's own, use CLIP's own tokenizer.

      Hugging Face has no form for a ResNet or a pruned model, and open_clip has none for a pruned model.

      Example:

        kinship weights export runs/mine --form hugging_face --output models/mine
      """)

  @Argument(
    help: ArgumentHelp(
      "A run's folder (its latest checkpoint), a checkpoint's, or anything that import takes.", valueName: "input"))
  var input: String

  @OptionGroup var folder: ModelFolder

  @Option(help: "The form to write: \(WeightsForm.allCases.map(\.rawValue).joined(separator: " or ")).")
  var form = WeightsForm.openCLIP

  @OptionGroup var options: WeightsOptions

  @Flag(help: "Writes the moving average of the weights of a run or checkpoint (ema in its run file).")
  var emaWeights = false

  func run() throws {
    let code = Job.run { communicator in
      let (model, preprocessing) = try load(over: communicator)
      guard communicator.rank == 0 else { return 0 }
      let written: [String]
      switch form {
      case .openCLIP:
        written = [ModelFiles.weights, ModelFiles.config]
        try ModelFiles.write(model, preprocessing: preprocessing, to: folder.make(for: written))
      case .huggingFace:
        written = [HuggingFaceFiles.weights, HuggingFaceFiles.config, HuggingFaceFiles.preprocessor]
        // This throws for a model without a form of Hugging Face's, before the folder is made.
        _ = try model.config.huggingFaceJSON
        try HuggingFaceFiles.write(model, preprocessing: preprocessing, to: folder.make(for: written))
      }
      print("\(ModelSummary(model.config).text)\n\(folder.output): \(written.joined(separator: ", "))")
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }

  private func load(over communicator: Communicator) throws -> (CLIP<Float>, ImageOptions) {
    let checkpoint = TrainedModel.checkpoint(input)
    let manifest = URL(filePath: checkpoint).appending(path: CheckpointManifest.file).relativePath
    if FileManager.default.fileExists(atPath: manifest) {
      guard options.config == nil, options.preset == nil else {
        throw UserError(input, "a checkpoint says its sizes itself; leave --config and --preset out", status: .usage)
      }
      let trained = try TrainedModel(input, averaged: emaWeights, over: communicator)
      return (trained.model, trained.saved.image)
    }
    guard !emaWeights else {
      throw UserError(input, "--ema-weights belongs to a run or a checkpoint; leave it out", status: .usage)
    }
    let source = try ForeignModel(input, config: options.config, preset: options.preset)
    return (try source.load(), source.preprocessing)
  }
}

extension WeightsForm: ExpressibleByArgument {}
