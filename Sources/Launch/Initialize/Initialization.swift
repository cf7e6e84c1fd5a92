import Dist
import Foundation
import Model
import Tensor

/// Weights of another model with which a run's model is initialized.
protocol Initialization {
  /// The source of the weights as the run's checkpoints store it.
  var saved: SavedStart { get }
  /// The log's line about the weights.
  var text: String { get }

  /// Overwrites the parameters of a model that has been initialized at random. Every rank must call it.
  func apply(to model: CLIP<Float>) throws
}

extension TrainingInputs {
  /// Opens the weights with which the run file initializes a model of these sizes, and checks that they are the same on
  /// every rank and fit; nil if all weights are drawn at random. Every rank must call it.
  func initialization(for config: CLIPConfig) throws -> (any Initialization)? {
    let inherited = try InheritedWeights(run, student: config, over: ranks)
    return try inherited ?? TransferredWeights(run, student: config, over: ranks)
  }
}

extension SavedRun {
  /// Throws a `UserError` (exit code 65) if this run's model at `path` has another vocabulary than `run`.
  func requireVocabulary(of run: RunConfig, in path: String, advice: String = "") throws {
    guard try SHA256.ofFile(run.vocabulary) != vocabularySHA256 else { return }
    let other = "was trained with another vocabulary (\(vocabulary), SHA-256 \(vocabularySHA256))"
    throw UserError(path, "\(other), so the same ids mean other words; set vocabulary to that one\(advice)")
  }
}

/// The larger model of `init.inherit`, from which the run's model is cut.
struct InheritedWeights: Initialization {
  let saved: SavedStart
  let plan: Inheritance
  private let source, student: CLIPConfig
  private let towers: Towers
  private let file: String?
  private let checkpoint: Checkpoint?
  private let ranks: Communicator

  /// Opens the source and plans the cuts; nil if the run inherits nothing. Throws a `UserError` (exit code 65) if they
  /// are impossible, or if the text tower inherits and the source had another vocabulary. Every rank must call it.
  init?(_ run: RunConfig, student: CLIPConfig, over ranks: Communicator) throws {
    guard let path = run.start.inherit else { return nil }
    (self.student, self.ranks) = (student, ranks)
    towers = run.start.towers
    file = try WeightsFile.find(path, over: ranks)
    if let file {
      checkpoint = nil
      let sum = try ranks.sha256(of: file) { try SHA256.ofWeights(WeightsFile.open(file)) }
      try ranks.requireSameFile("model to inherit from", file, sha256: sum)
      source = try ModelFiles.sizes(ModelFiles.description(of: file))
      saved = SavedStart(key: "inherit", path: path, sha256: sum)
    } else {
      let opened = try Checkpoint.open(TrainedModel.checkpoint(path), communicator: ranks)
      let trained = try SavedRun(opened)
      checkpoint = opened
      source = try trained.config(in: opened.folder)
      saved = SavedStart(key: "inherit", path: path, sha256: opened.sha256)
      if towers.text { try trained.requireVocabulary(of: run, in: path, advice: ", or init.towers to image") }
    }
    do throws(InheritanceError) { plan = try Inheritance(from: source, to: student, towers: towers) } catch {
      throw UserError(path, "the run's model cannot be cut from it:\n  \(error)")
    }
  }

  func apply(to model: CLIP<Float>) throws {
    let whole: CLIP<Float>
    if let file {
      whole = try ModelFiles.model(source, from: file, over: ranks)
    } else {
      try checkpoint?.require(CLIP<Float>.layout(source).entries, leaving: .objective)
      try source.requireMemory(saved.path, over: ranks)
      whole = CLIP<Float>(source, frozen: true)
    }
    if let checkpoint { try whole.read(checkpoint, over: ranks) }
    plan.apply(from: whole.parameters, to: model.parameters)
  }

  var text: String {
    let which = towers == .both ? "both towers" : "the \(towers.rawValue) tower"
    var parts = plan.stacks.map { stack in
      let isWhole = stack.blocks.count == stack.sourceCount
      let blocks = isWhole ? "all" : stack.blocks.map(String.init).joined(separator: " ")
      return "\(stack.name): \(blocks) of \(stack.sourceCount) blocks"
    }
    if towers.image { parts.append("image tower \(student.vision.width) of \(source.vision.width) wide") }
    if towers.text { parts.append("text tower \(student.text.width) of \(source.text.width) wide") }
    parts.append("embedding \(student.embedding) of \(source.embedding)")
    return "inherits \(which) (\(plan.cuts.count) tensors) from \(saved.path), SHA-256 \(saved.sha256): "
      + parts.joined(separator: "; ")
  }
}

/// The model of `init.from`, which has the sizes of the run's model and gives it its weights. Only the image size may
/// differ: the positions of a vision transformer are then resized.
struct TransferredWeights: Initialization {
  private enum Source {
    case checkpoint(Checkpoint)
    case file(any NamedTensors, WeightsForm)
  }

  let saved: SavedStart
  private let source: Source
  /// The sizes of the source, which are those of the run's model except for the image size and the logit bias.
  private let config, student: CLIPConfig
  private let ranks: Communicator

  /// Opens the source and compares it with the run's model: names, shapes, and, if the source describes its sizes,
  /// activation and heads. Throws a `UserError` (exit code 65) that lists every difference. Every rank must call it.
  init?(_ run: RunConfig, student: CLIPConfig, over ranks: Communicator) throws {
    guard let path = run.start.from else { return nil }
    (self.student, self.ranks) = (student, ranks)
    source = try Self.open(path, over: ranks)
    var config = student.withPositions(Self.positions(in: source))
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
      described = try run.config(in: checkpoint.folder)
      problems = checkpoint.mismatches(layout.entries, leaving: .objective) + layout.bufferMismatches(in: checkpoint)
      sum = checkpoint.sha256
    case .file(let file, let form):
      sum = try ranks.sha256(of: file.path) { try SHA256.ofWeights(file) }
      try ranks.requireSameFile("init.from", file.path, sha256: sum)
      trained = try SavedRun(in: file)
      described = try ForeignModel.config(of: file).map(ModelFiles.sizes)
      problems = try WeightsMatch(form, config, layout).mismatches(in: file)
    }
    if let described { problems += Self.hiddenDifferences(described, config).filter { !problems.contains($0) } }
    guard problems.isEmpty else {
      let fix = "init.from takes weights as they are; change model, or cut them with init.inherit"
      throw UserError(path, "does not fit the run's model, and \(fix):" + WeightsMatch.list(problems))
    }
    try trained?.requireVocabulary(of: run, in: path)
    saved = SavedStart(key: "from", path: path, sha256: sum)
  }

  /// Opens the checkpoint in a folder, or a run's latest one; without one, the file of weights there.
  private static func open(_ path: String, over ranks: Communicator) throws -> Source {
    let isCheckpoint = TrainedModel.isOne(path)
    try ranks.requireSame("init.from", isCheckpoint ? "checkpoint" : "file")
    if isCheckpoint { return .checkpoint(try Checkpoint.open(TrainedModel.checkpoint(path), communicator: ranks)) }
    let file = try WeightsFile.open(try ForeignModel.weights(path))
    return .file(file, WeightsForm(of: file))
  }

  /// Returns the number of rows of the source's positional embedding for images; nil without one of a possible shape.
  private static func positions(in source: Source) -> Int? {
    let name = "visual.positional_embedding"
    let shape: [Int]?
    switch source {
    case .checkpoint(let checkpoint): shape = checkpoint.manifest.parameters.first { $0.name == name }?.shape
    case .file(let file, let form):
      let theirs = form == .huggingFace ? HuggingFaceNames.place(of: name)?.names.first ?? name : name
      shape = (try? file.shape(of: theirs))?.array
    }
    guard let shape, shape.count == 2, shape[1] > 0, 0..<1 << 24 ~= shape[0] else { return nil }
    return shape[0]
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
    func text(_ config: CLIPConfig) -> Int { config.text.blockSizes.heads.max() ?? 0 }
    let heads = [("image", source.vision.heads, student.vision.heads), ("text", text(source), text(student))]
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
    let resized = "; positions of images resized from \(config.vision.imageSize) px to \(student.vision.imageSize) px"
    return "begins with the weights of \(saved.path) (\(form), SHA-256 \(saved.sha256))\(isResized ? resized : "")"
  }
}

extension CLIPConfig {
  /// Returns the sizes with the image size for which a positional embedding has this number of rows, if there is one.
  fileprivate func withPositions(_ rows: Int?) -> CLIPConfig {
    guard let rows, vision.stages == nil, rows > 1 else { return self }
    let grid = Int(Double(rows - 1).squareRoot().rounded())
    guard grid * grid + 1 == rows, grid != vision.grid else { return self }
    var config = self
    config.vision.imageSize = grid * vision.patchSize
    return config
  }
}
