import Dist
import Foundation
import Model
import Tensor

/// The model of `init.from`, which has the sizes of the run's model and gives it its weights. Only the image size may
/// differ: the positions of a vision transformer are then resized.
struct TransferredWeights: Initialization {
  private enum Source {
    case checkpoint(Checkpoint)
    case file(any NamedTensors, WeightsForm)
  }

  let saved: SavedStart
  private let source: Source
  /// The sizes of the source: those of the run's model, except for the image size and the logit bias.
  private let config: CLIPConfig
  private let student: CLIPConfig
  private let ranks: Communicator

  /// Opens the source and compares it with the run's model: names, shapes, and, if the source has a description of its
  /// sizes, activation and heads, which no shape shows. Every rank must call it.
  ///
  /// - Throws: a `UserError` (exit code 65) that lists every difference; the errors of the source's own reader.
  init?(_ run: RunConfig, student: CLIPConfig, over ranks: Communicator) throws {
    guard let path = run.start.from else { return nil }
    self.student = student
    self.ranks = ranks
    source = try Self.open(path, over: ranks)
    var config = student.withPositions(try Self.positions(in: source))
    config.initialLogitBias = Self.hasLogitBias(source) ? student.initialLogitBias ?? 0 : nil
    self.config = config
    let layout = CLIP<Float>.layout(config)
    var problems: [String]
    let described: CLIPConfig?
    let trained: SavedRun?
    let sum: String
    switch source {
    case .checkpoint(let checkpoint):
      let run = try SavedRun(checkpoint)
      trained = run
      described = try CLIPConfig(json: Data(run.model.utf8))
      problems =
        checkpoint.mismatches(layout.entries, leaving: .objective) + layout.bufferMismatches(in: checkpoint)
      sum = try checkpoint.sha256
    case .file(let file, let form):
      trained = try SavedRun(in: file)
      let isDescribed = file.metadata[ModelFiles.configKey] != nil
      described = try (isDescribed ? file.path : ForeignModel.config(beside: file.path, form)).map(ModelFiles.sizes)
      problems = try WeightsMatch(form, config, layout).mismatches(in: file)
      sum = try ranks.node().sha256(of: file.path) { try SHA256.ofWeights(file) }
    }
    if let described {
      problems += Self.hiddenDifferences(described, config).filter { !problems.contains($0) }
    }
    guard problems.isEmpty else {
      throw UserError(
        path,
        "does not fit the run's model, and init.from takes weights as they are; change model, or cut them with "
          + "init.inherit:\n  " + problems.joined(separator: "\n  "))
    }
    try trained?.requireVocabulary(of: run, in: path)
    saved = SavedStart(key: "from", path: path, sha256: sum)
  }

  /// Opens the checkpoint in a folder, or a run's latest one; without a checkpoint, the file of weights at the path or
  /// in the folder.
  private static func open(_ path: String, over ranks: Communicator) throws -> Source {
    let checkpoint = TrainedModel.checkpoint(path)
    let isCheckpoint = FileManager.default.fileExists(atPath: "\(checkpoint)/\(CheckpointManifest.file)")
    try ranks.requireSame("init.from", isCheckpoint ? "checkpoint" : "file")
    if isCheckpoint { return .checkpoint(try Checkpoint.open(checkpoint, communicator: ranks)) }
    let file = try WeightsFile.open(try ForeignModel.weights(path))
    return .file(file, WeightsForm(of: file))
  }

  /// Returns the number of rows of the source's positional embedding for images; nil if the source has none of a
  /// possible shape.
  private static func positions(in source: Source) throws -> Int? {
    guard let shape = try positionsShape(in: source), shape.count == 2, shape[1] > 0, 0..<1 << 24 ~= shape[0] else {
      return nil
    }
    return shape[0]
  }

  private static func positionsShape(in source: Source) throws -> [Int]? {
    let name = VisionConfig.positions
    switch source {
    case .checkpoint(let checkpoint):
      return checkpoint.manifest.parameters.first { $0.name == name }?.shape
    case .file(let file, let form):
      let theirs = form == .huggingFace ? HuggingFaceNames.place(of: name)?.names.first ?? name : name
      return file.contains(theirs) ? (try? file.shape(of: theirs))?.array : nil
    }
  }

  private static func hasLogitBias(_ source: Source) -> Bool {
    switch source {
    case .checkpoint(let checkpoint): checkpoint.manifest.parameters.contains { $0.name == CLIPConfig.logitBias }
    case .file(let file, _): file.contains(CLIPConfig.logitBias)
    }
  }

  /// Returns the differences that no shape shows.
  private static func hiddenDifferences(_ source: CLIPConfig, _ student: CLIPConfig) -> [String] {
    var found: [String] = []
    if source.activation != student.activation {
      found.append(
        "activation: the weights are for \(source.activation.rawValue), the model's is \(student.activation.rawValue)")
    }
    let heads = [
      ("image", source.vision.heads, student.vision.heads),
      ("text", source.text.blockSizes.heads.max() ?? 0, student.text.blockSizes.heads.max() ?? 0),
    ]
    for (tower, theirs, ours) in heads where theirs != ours {
      found.append("heads: the \(tower) tower's weights are for \(theirs), the model's has \(ours)")
    }
    return found
  }

  private var isResized: Bool { config.vision != student.vision }

  func apply(to model: CLIP<Float>) throws {
    guard config != student else { return try read(into: model) }
    var whole = CLIP<Float>(config, frozen: true)
    try read(into: whole)
    if isResized { whole = try whole.resized(to: student.vision.imageSize) }
    // If only one of the two has a logit bias, the model's keeps its value.
    for entry in whole.entries {
      guard let own = model.parameters.entry(named: entry.name) else { continue }
      copy(whole.parameters.value(of: entry), into: model.parameters.value(of: own))
    }
    if whole.parameters.bufferValues.count > 0 {
      copy(whole.parameters.bufferValues, into: model.parameters.bufferValues)
    }
  }

  /// Fills the model: each rank reads its share of the source, and an all-gather completes the rest.
  private func read(into model: CLIP<Float>) throws {
    switch source {
    case .checkpoint(let checkpoint): try model.read(checkpoint, over: ranks)
    case .file(let file, _):
      let values = model.parameters.values
      let shares = ranks.slices(of: values.count)
      try ModelFiles.read(file.path, into: model, ranges: [shares[ranks.rank]])
      if ranks.size > 1 { try ranks.allGather(partsOf: values, ranges: shares) }
    }
  }

  var text: String {
    let form =
      switch source {
      case .checkpoint(let checkpoint): "a checkpoint of \(checkpoint.manifest.record.step) steps"
      case .file(_, let form): form.title
      }
    let resized =
      isResized
      ? "; positions of images resized from \(config.vision.imageSize) px to \(student.vision.imageSize) px" : ""
    return "begins with the weights of \(saved.path) (\(form), SHA-256 \(saved.sha256))\(resized)"
  }
}

extension VisionConfig {
  /// The name of a vision transformer's positional embedding.
  fileprivate static let positions = "visual.positional_embedding"
}

extension CLIPConfig {
  /// Returns the sizes with the image size for which a positional embedding has this number of rows; unchanged if there
  /// is no such image size.
  fileprivate func withPositions(_ rows: Int?) -> CLIPConfig {
    guard let rows, vision.stages == nil, rows > 1 else { return self }
    let grid = Int(Double(rows - 1).squareRoot().rounded())
    guard grid * grid + 1 == rows, grid != vision.grid else { return self }
    var config = self
    config.vision.imageSize = grid * vision.patchSize
    return config
  }
}
