import ArgumentParser
import Dist
import Foundation
import Model
import Settings
import Tensor

/// The options of all evaluations: the model, the dataset, and the file for the figures.
struct EvaluationOptions: ParsableArguments {
  @OptionGroup var source: ModelSource
  @Option(name: [.long, .customLong("corpus")], help: "The dataset to evaluate on: its index file or folder.")
  var dataset: String
  @Option(help: ArgumentHelp("Also writes the figures to this file, as one JSON object.", valueName: "file"))
  var json: String?

  @Option(
    help: ArgumentHelp(
      "Evaluates the averages of the model and this one, which has the same sizes and may be anything that "
        + "--checkpoint may be: a line of figures for each of the weights 0, 1/n … 1 of this one.", valueName: "path"))
  var interpolateTo: String?
  @Option(help: ArgumentHelp("The n of --interpolate-to. Default: 10.", valueName: "n")) var interpolateSteps: Int?

  func validate() throws {
    guard let interpolateSteps else { return }
    try require(interpolateTo != nil, "--interpolate-steps belongs to --interpolate-to; leave it out, or give both")
    try require(
      1...1000 ~= interpolateSteps, "--interpolate-steps: expected 1 to 1000 steps, found \(interpolateSteps)")
  }

  /// Runs an evaluation on every rank. Rank 0 prints and writes the figures.
  func run(_ make: (Dataset, Communicator) throws -> any Evaluation) throws {
    try Job.perform { communicator in
      try ThreadPlan.agreed(over: communicator).apply()
      let dataset = try Dataset.open(dataset, over: communicator)
      let ends = interpolateTo.map { source.ends(to: $0) }
      let (embedder, step) = try (ends?.start ?? source).load(over: communicator)
      if communicator.rank == 0 { embedder.reportPreparation() }
      if let interpolateTo, let ends {
        let other = try ends.end.load(over: communicator).embedder
        let line = try ModelLine(from: (source.checkpoint, embedder), to: (interpolateTo, other))
        let points = try line.evaluate(
          make(dataset, communicator), parts: interpolateSteps ?? 10, over: communicator)
        guard communicator.rank == 0 else { return }
        let report = LineReport(
          checkpoint: source.checkpoint, interpolateTo: interpolateTo, alpha: embedder.image.alpha, points: points)
        if let json { try report.writeJSON(to: json) }
        let title = points.first?.figures.lines.first ?? ""
        return try StandardOutput.print("\(title)\n\(ModelLine.table(points))")
      }
      let figures: any EvaluationFigures =
        try make(dataset, communicator).run(embedder, over: communicator, pause: {})
      guard communicator.rank == 0 else { return }
      if let json {
        try EvaluationReport(
          checkpoint: source.checkpoint, step: step, alpha: embedder.image.alpha, figures: figures
        ).writeJSON(to: json)
      }
      try StandardOutput.print(figures.lines.joined(separator: "\n"))
    }
  }
}

struct ModelSource: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The model: a checkpoint's folder, a run's folder (its latest checkpoint; RUN/best: its best), a file of kinship "
        + "merge, or weights: a folder that kinship weights import wrote, or a safetensors or PyTorch file (texts need "
        + "--vocabulary, and weights without open_clip_config.json or config.json beside them --model).",
      valueName: "path"))
  var checkpoint: String
  @Option(help: "For weights: the preset or .json file with the model's sizes (model_cfg, preprocess_cfg).")
  var model: String?
  @Option(help: "The vocabulary file. Default: that of the run.") var vocabulary: String?
  @Flag(help: "The moving average of the weights that a run or checkpoint keeps beside them (ema in its run file).")
  var emaWeights = false
  @Option(
    help: ArgumentHelp(
      "How transparent pixels become opaque: white (laid on white), or drop (alpha is left out, as in open_clip). "
        + "Default: as in the model's training for one of ours, otherwise drop.", valueName: "white|drop"),
    transform: Bench.word { "--alpha is \(AlphaHandling.expectation), not \($0)" })
  var alpha: AlphaHandling?

  /// Loads the model, and returns its training step if it is known; without `texts`, no vocabulary is needed. Every
  /// rank must call it.
  func load(over communicator: Communicator, texts: Bool = true) throws -> (embedder: CLIPEmbedder, step: Int?) {
    let weights = try WeightsFile.find(checkpoint, over: communicator)
    var found = try stored(weights, texts: texts, over: communicator)
    if communicator.size > 1 { try requireSameFiles(weights, found.embedder, over: communicator) }
    found.embedder.image.alpha = alpha ?? found.embedder.image.alpha
    return found
  }

  /// Returns the sources of this model and another one. Of weights and a run, options that belong only to one of them
  /// hold for that one.
  func ends(to other: String) -> (start: ModelSource, end: ModelSource) {
    var (start, end) = (self, self)
    end.checkpoint = other
    switch (WeightsFile.find(checkpoint) != nil, WeightsFile.find(other) != nil) {
    case (true, false): (start.emaWeights, end.model) = (false, nil)
    case (false, true): (start.model, end.emaWeights) = (nil, false)
    default: break
    }
    return (start, end)
  }

  private func stored(
    _ weights: String?, texts: Bool, over communicator: Communicator
  ) throws -> (embedder: CLIPEmbedder, step: Int?) {
    if let weights {
      guard !emaWeights else {
        throw notLoaded(
          "--ema-weights belongs to a run or a checkpoint; a run that has ended has the average in its folder ema, "
            + "and kinship merge --ema-weights writes that of any checkpoint to a file")
      }
      if model == nil, let merged = try TrainedModel(merged: weights, over: communicator) {
        return try embedder(of: merged, texts: texts)
      }
      return (try loadForeign(weights, texts: texts, over: communicator), nil)
    }
    guard model == nil else { throw notLoaded("--model belongs to a safetensors file; leave it out") }
    return try embedder(of: TrainedModel(checkpoint, averaged: emaWeights, over: communicator), texts: texts)
  }

  /// Throws a `RankDifference` if the ranks have read different files; a checkpoint has been compared already.
  private func requireSameFiles(_ weights: String?, _ embedder: CLIPEmbedder, over ranks: Communicator) throws {
    if let weights {
      let sum = try ranks.sha256(of: weights) { try ModelFiles.sha256(weights, readInto: embedder.model) }
      try ranks.requireSameFile("model \(weights)", weights, sha256: sum)
    }
    if let vocabulary { try ranks.requireSameFile("vocabulary \(vocabulary)", vocabulary) }
    let sizes = String(decoding: try embedder.model.config.json, as: UTF8.self)
    try ranks.requireSame("description of the model", "\(sizes) \(embedder.image.identity)")
  }

  private func embedder(of trained: TrainedModel, texts: Bool) throws -> (embedder: CLIPEmbedder, step: Int?) {
    (try CLIPEmbedder(trained, vocabulary: vocabulary, texts: texts), trained.step)
  }

  private func notLoaded(_ reason: String) -> UserError {
    UserError("no model can be loaded from \(checkpoint): \(reason)", status: .usage)
  }

  private func loadForeign(_ weights: String, texts: Bool, over ranks: Communicator) throws -> CLIPEmbedder {
    let preset = model.flatMap { ModelConfig(name: $0).preset }
    let described = ModelFiles.description(of: weights)
    let file = preset == nil ? model ?? (FileManager.default.fileExists(atPath: described) ? described : nil) : nil
    let isWithoutWords = texts && vocabulary == nil
    guard preset ?? file != nil else {
      let name = URL(filePath: described).lastPathComponent
      throw notLoaded(
        (isWithoutWords ? "--vocabulary is needed with it, and --model" : "--model is needed with it")
          + " unless \(name) lies beside it")
    }
    guard !isWithoutWords else { throw notLoaded("--vocabulary is needed with it for texts") }
    let words = try vocabulary.map { try Vocabulary(contentsOf: $0) }
    var config = try preset.map { try CLIPConfig(preset: $0) } ?? ModelFiles.sizes(file ?? described)
    if preset != nil {
      try ForeignModel.check(config, of: weights, advice: "leave --model out, or name the right file with it")
    }
    if let words, let vocabulary {
      config = try config.fitted(to: words, path: vocabulary)
    } else if config.text.vocabularySize == 0 {
      config.text.vocabularySize = try ForeignModel.words(in: WeightsFile.open(weights)) ?? 0
    }
    let clip = try ModelFiles.model(config, from: weights, pairs: BlockEncoder.height, over: ranks)
    let size = config.vision.imageSize
    let image =
      try file.map { try ModelFiles.preprocessing($0, size: size) }
      ?? ModelFiles.preprocessing(beside: weights, size: size)
    let context = config.text.contextLength
    return CLIPEmbedder(
      model: clip, image: image, tokenizer: words.map { BytePairTokenizer(vocabulary: $0, context: context) })
  }
}
