import Dist
import Foundation
import Model
import Tensor

/// The forms in which `kinship weights export` writes a model.
enum ExportForm: String, CaseIterable {
  case openCLIP = "open_clip"
  case huggingFace = "hugging_face"
  /// The forms of open_clip and Hugging Face.
  case both
  case onnx
}

/// A model and what a folder says of it beside its weights, so that other programs can use it without Kinship.
struct ModelExport {
  let model: CLIP<Float>
  private let input: String
  private let preprocessing: ImageOptions
  private let preprocessConfig: [String: Any]?
  /// The vocabulary of its captions; nil if none is named, and on ranks other than 0.
  private let vocabulary: Vocabulary?
  private let card: ModelCard

  /// Loads a run's model, a checkpoint's, or any that `ForeignModel` opens. A run has its vocabulary, which must be
  /// there; `vocabulary` names one for other models, or the place of the run's. Every rank must call it.
  init(
    _ input: String, _ options: WeightsOptions, vocabulary: String?, averaged: Bool, over communicator: Communicator
  ) throws {
    self.input = input
    let saved: SavedRun?
    var (step, history, isAveraged): (Int?, RunHistory?, Bool) = (nil, nil, averaged)
    if TrainedModel.isOne(input) {
      guard options.config == nil, options.preset == nil else {
        throw UserError(input, "a checkpoint says its sizes itself; leave --config and --preset out", status: .usage)
      }
      let trained = try TrainedModel(input, averaged: averaged, over: communicator)
      (model, preprocessing, preprocessConfig) = (trained.model, trained.saved.image, nil)
      (saved, step, history) = (trained.saved, trained.step, RunFolder.history(of: input, upTo: trained.step))
    } else {
      guard !averaged else {
        throw UserError(input, "--ema-weights belongs to a run or a checkpoint; leave it out", status: .usage)
      }
      let source = try ForeignModel(input, config: options.config, preset: options.preset)
      (model, preprocessing, preprocessConfig) = (try source.load(), source.preprocessing, source.preprocessConfig)
      saved = try SavedRun(in: source.file)
      if let record = try MergeRecord(in: source.file) {
        (step, isAveraged) = (record.step, record.emaWeights ?? false)
      }
    }
    card = ModelCard(config: model.config, saved: saved, step: step, isAveraged: isAveraged, history: history)
    guard communicator.rank == 0 else {
      self.vocabulary = nil
      return
    }
    let words = try saved?.readVocabulary(at: vocabulary) ?? vocabulary.map { try Vocabulary(contentsOf: $0) }
    if let words { _ = try model.config.fitted(to: words, path: vocabulary ?? saved?.vocabulary ?? "") }
    self.vocabulary = words
  }

  /// Writes the files of a form into a new folder, or those of open_clip and Hugging Face if none is asked for, but
  /// open_clip's alone if Hugging Face has no form for the model. ONNX's weights are of the given numbers. Returns the
  /// files' names, and what is not among them and why. Throws, before the folder is made, if the form that is asked for
  /// cannot represent the model.
  func write(
    _ asked: ExportForm?, _ numbers: ONNXNumbers, to target: ModelFolder
  ) throws -> (names: [String], notes: [String]) {
    if asked == .onnx { return try writeONNX(numbers, to: target) }
    var form = asked ?? .both
    var notes: [String] = []
    do {
      if form != .openCLIP { try HuggingFaceFiles.check(model.config, preprocessing) }
    } catch let error as ConfigError {
      guard asked == nil else { throw UserError(input, "\(error); write it with --form open_clip") }
      form = .openCLIP
      notes.append("without Hugging Face's files: \(error)")
    }
    let ours = form == .huggingFace ? [] : [ModelFiles.weights, ModelFiles.config]
    let theirs =
      form == .openCLIP ? [] : [HuggingFaceFiles.weights, HuggingFaceFiles.config, HuggingFaceFiles.preprocessor]
    let names = ours + theirs + namesBeside
    let folder = try target.make(for: names)
    if !ours.isEmpty {
      try ModelFiles.write(
        model, preprocessing: preprocessing, keeping: preprocessConfig, hasTokenizer: hasOwnWords, to: folder)
    }
    if !theirs.isEmpty { try HuggingFaceFiles.write(model, preprocessing: preprocessing, to: folder) }
    return (names, notes + (try writeBeside(form, to: folder)))
  }

  /// Writes `ONNXExport`'s files into a new folder, with what prepares their inputs: Hugging Face's files, which every
  /// library of tokenizers and many of images read.
  private func writeONNX(
    _ numbers: ONNXNumbers, to target: ModelFolder
  ) throws -> (names: [String], notes: [String]) {
    let export = try ONNXExport(model, numbers)
    var notes: [String] = []
    var names = export.names
    do {
      _ = try preprocessing.huggingFaceProcessor
      names.append(HuggingFaceFiles.preprocessor)
    } catch let error as ConfigError {
      notes.append("without \(HuggingFaceFiles.preprocessor): \(error)")
    }
    names += namesBeside
    let folder = try target.make(for: names)
    try export.write(to: folder)
    if notes.isEmpty { try HuggingFaceFiles.write(preprocessing, to: folder) }
    return (names, notes + (try writeBeside(.onnx, to: folder)))
  }

  /// The names of the files that every form has.
  private var namesBeside: [String] {
    (vocabulary == nil ? [] : [HuggingFaceFiles.tokenizer, HuggingFaceFiles.tokenizerConfig]) + [ModelCard.file]
  }

  /// open_clip brings CLIP's own vocabulary along.
  private var hasOwnWords: Bool { vocabulary.map { $0.origin != .clip } ?? false }

  /// Writes the files that every form has into an existing folder. Returns what is not among them and why.
  private func writeBeside(_ form: ExportForm, to folder: URL) throws -> [String] {
    var notes: [String] = []
    if let vocabulary {
      try HuggingFaceFiles.write(vocabulary, context: model.config.text.contextLength, to: folder)
    } else {
      notes.append("without \(HuggingFaceFiles.tokenizer): name the model's vocabulary with --vocabulary")
    }
    let text = card.text(form, preprocessing, hasOwnWords: hasOwnWords)
    try ModelFiles.write(Data(text.utf8), to: folder.appending(path: ModelCard.file))
    return notes
  }
}
