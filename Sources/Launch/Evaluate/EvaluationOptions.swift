import ArgumentParser
import Dist
import Foundation
import Model
import Tensor

/// The options of all evaluations: the model, the dataset, and the file for the figures.
struct EvaluationOptions: ParsableArguments {
  @OptionGroup var source: ModelSource
  @Option(name: [.long, .customLong("corpus")], help: "The dataset to evaluate on: its index file or folder.")
  var dataset: String
  @Option(help: ArgumentHelp("Also writes the figures to this file, as one JSON object.", valueName: "file"))
  var json: String?

  /// Runs an evaluation on every rank. Rank 0 prints and writes the figures.
  func run(_ evaluate: (CLIPEmbedder, Dataset, Communicator) throws -> any EvaluationFigures) throws {
    try Job.perform { communicator in
      try ThreadPlan.agreed(over: communicator).apply()
      let dataset = try Dataset.open(dataset)
      let (embedder, step) = try source.load(over: communicator)
      let figures = try evaluate(embedder, dataset, communicator)
      guard communicator.rank == 0 else { return }
      for line in figures.lines { print(line) }
      if let json { try EvaluationReport(checkpoint: source.checkpoint, step: step, figures: figures).write(to: json) }
    }
  }
}

struct ModelSource: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The model: a checkpoint's folder, a run's folder (its latest checkpoint), or a file: one of kinship merge, or a "
        + "safetensors or PyTorch file (then with --vocabulary; and --model unless open_clip_config.json lies beside "
        + "it).", valueName: "path"))
  var checkpoint: String
  @Option(help: "For a safetensors file: the preset or .json file with the model's sizes (model_cfg, preprocess_cfg).")
  var model: String?
  @Option(help: "The vocabulary file. Default: that of the run.") var vocabulary: String?
  @Flag(help: "The moving average of the weights that a run or checkpoint keeps beside them (ema in its run file).")
  var emaWeights = false

  /// Loads the model, and returns its training step if it is known. Every rank must call it.
  func load(over communicator: Communicator) throws -> (embedder: CLIPEmbedder, step: Int?) {
    if WeightsFile.isOne(checkpoint) {
      guard !emaWeights else {
        throw notLoaded(
          "--ema-weights belongs to a run or a checkpoint; a run that has ended has the average in its folder ema, "
            + "and kinship merge --ema-weights writes that of any checkpoint to a file")
      }
      if model == nil, let merged = try TrainedModel(merged: checkpoint) { return try embedder(of: merged) }
      return (try loadSafetensors(), nil)
    }
    guard model == nil else { throw notLoaded("--model belongs to a safetensors file; leave it out") }
    return try embedder(of: TrainedModel(checkpoint, averaged: emaWeights, over: communicator))
  }

  private func embedder(of trained: TrainedModel) throws -> (embedder: CLIPEmbedder, step: Int?) {
    (try CLIPEmbedder(trained, vocabulary: vocabulary), trained.step)
  }

  private func notLoaded(_ reason: String) -> UserError {
    UserError("no model can be loaded from \(checkpoint): \(reason)")
  }

  private func loadSafetensors() throws -> CLIPEmbedder {
    let beside = URL(filePath: checkpoint).deletingLastPathComponent().appending(path: ModelFiles.config).relativePath
    let sizes = model ?? (FileManager.default.fileExists(atPath: beside) ? beside : nil)
    guard let sizes, let vocabulary else {
      throw notLoaded("--vocabulary is needed with it, and --model unless \(ModelFiles.config) lies beside it")
    }
    let choice = ModelConfig(name: sizes)
    let words = try Vocabulary(contentsOf: vocabulary)
    let config = try choice.resolved(for: words, path: vocabulary)
    let clip = CLIP<Float>(config, frozen: true)
    try ModelFiles.read(checkpoint, into: clip)
    var image = ImageOptions()
    image.size = config.vision.imageSize
    if let file = choice.file { image = try ModelFiles.preprocessing(file, size: image.size) }
    return CLIPEmbedder(
      model: clip, image: image, tokenizer: BytePairTokenizer(vocabulary: words, context: config.text.contextLength))
  }
}
