import Dist
import Foundation
import Model
import Tensor

/// The inputs of a merge: models that are complete and of the same kind, and the weight of each.
struct MergePlan {
  let inputs: [MergeInput]
  /// The factor of each input's numbers.
  let weights: [Double]
  let average: Average?
  /// If true, the moving averages of runs are merged, and not their weights.
  let emaWeights: Bool
  let config: CLIPConfig
  /// The input with the most steps, whose run and counts stand for all; without steps, the last one.
  let last: MergeInput

  /// Opens the inputs: checkpoints, or the latest one of a run's folder, and for averages weights of other forms too.
  /// Every rank must call it.
  init(
    _ paths: [String], _ average: Average?, emaWeights: Bool, _ options: WeightsOptions, over communicator: Communicator
  ) throws {
    if average == nil, let path = paths.first(where: { WeightsFile.find($0) != nil }) {
      throw UserError(
        path,
        "holds weights and no checkpoint, and kinship merge makes weights of checkpoints; to convert weights, use "
          + "kinship weights export")
    }
    let inputs = try paths.map { try MergeInput($0, options, over: communicator) }
    var found: Set<String> = []
    if let twice = inputs.first(where: { !found.insert($0.path).inserted }) {
      throw UserError(twice.path, "is named twice; name each model once", status: .usage)
    }
    let checkpoints = inputs.compactMap(\.checkpoint)
    if checkpoints.count == inputs.count, options.config ?? options.preset != nil {
      throw UserError("--config and --preset belong to weights; leave them out", status: .usage)
    }
    if emaWeights, checkpoints.isEmpty {
      throw UserError("--ema-weights belongs to checkpoints, and there are none; leave it out", status: .usage)
    }
    if emaWeights, let other = checkpoints.first(where: { !$0.manifest.isAveraged }) {
      throw UserError(
        other.folder, "holds no moving average of the weights: its run had no ema; leave --ema-weights out")
    }
    if case .ema = average { try Self.requireOrder(inputs) }
    (self.inputs, self.average, self.emaWeights) = (inputs, average, emaWeights)
    weights = average?.weights(of: inputs.count) ?? [1]
    config = inputs[0].config
    let most = inputs.compactMap(\.step).max()
    last = inputs.last { $0.step == most } ?? inputs[inputs.count - 1]
    let problems = try inputs.dropFirst().flatMap { try inputs[0].mismatches($0) }
    guard problems.isEmpty else {
      let reason = "another input does not hold the same model, so they have no average"
      throw UserError(inputs[0].path, "\(reason):\n  " + problems.joined(separator: "\n  "))
    }
  }

  private static func requireOrder(_ inputs: [MergeInput]) throws {
    let fix = "--ema takes checkpoints in the order of their steps"
    let steps = try inputs.map { input in
      guard let step = input.step else {
        throw UserError(input.path, "does not say how many steps it was trained; \(fix)", status: .usage)
      }
      return step
    }
    if let place = steps.indices.dropFirst().first(where: { steps[$0] <= steps[$0 - 1] }) {
      let order = "comes after \(inputs[place - 1].path) with \(steps[place - 1])"
      throw UserError(inputs[place].path, "has \(steps[place]) steps and \(order); \(fix)", status: .usage)
    }
  }

  var merge: CheckpointMerge { CheckpointMerge(zip(inputs, weights).map { ($0.source, $1) }) }

  /// Returns the tensors of the merged file: the model, and with `optimizer` everything else too, which only one
  /// checkpoint has.
  func tensors(optimizer: Bool) throws -> [MergedTensor] {
    let layout = CLIP<Float>.layout(config)
    var tensors = layout.entries.map { MergedTensor.values(of: $0.name, $0.shape.array, averaged: emaWeights) }
    let checkpoint = optimizer ? last.checkpoint : nil
    if let parameters = checkpoint?.manifest.parameters {
      let own = parameters.filter { NamedSlice.Owner(of: $0.name) == .objective }
      tensors += own.map { MergedTensor.values(of: $0.name, $0.shape, averaged: false) }
    }
    tensors += try layout.buffers.map { buffer -> MergedTensor in
      // A mean of counts would mean nothing.
      let used = buffer.isCount ? [(last, 1.0)] : Array(zip(inputs, weights))
      let all = try used.map { (try $0.numbers(buffer, averaged: emaWeights), $1) }
      let mean = (0..<buffer.shape.count).map { at in all.reduce(0) { $0 + $1.1 * $1.0[at] } }
      let array = CheckpointRecord.Array(name: buffer.name, shape: buffer.shape.array, values: mean)
      return .array(array, as: buffer.isCount ? .int64 : .float32)
    }
    guard let manifest = checkpoint?.manifest else { return tensors }
    tensors += manifest.parameters.flatMap { MergedTensor.moments(of: $0.name, $0.shape) }
    if manifest.isAveraged { tensors += manifest.parameters.map { MergedTensor.average(of: $0.name, $0.shape) } }
    let buffers = Set(layout.buffers.map(\.name))
    let others = manifest.record.arrays.filter { !buffers.contains($0.name) }
    return tensors + others.map { .array($0, as: .float64) }
  }

  /// Returns the metadata of the merged file, which can then be used without any other file.
  func metadata(optimizer: Bool) throws -> [String: String] {
    var metadata = ModelFiles.metadata(config)
    let sizes = try ModelFiles.json(config, preprocessing: last.image)
    metadata[ModelFiles.configKey] = String(decoding: sizes, as: UTF8.self)
    metadata[SavedRun.key] = last.run
    metadata[MergeRecord.key] = try MergeRecord(self, optimizer: optimizer).jsonText()
    metadata["kinship_version"] = Release.version
    return metadata
  }
}

/// The origin of a merged file, as JSON in its metadata entry or attribute `kinship_merge`.
struct MergeRecord: Codable {
  struct Source: Codable {
    /// The checkpoint's folder, or the file of weights.
    var checkpoint: String
    /// The SHA-256 of the checkpoint's manifest, which has the checksums of all parts, or that of the weights.
    var sha256: String
    /// What only a checkpoint tells.
    var run: String?
    var step, samples: Int?
    /// The factor of its numbers.
    var weight: Double
    var version: String?
  }

  /// `none`, `uniform`, `weights`, or `ema` with its decay.
  var average: String
  var optimizer: Bool
  /// True if the numbers are moving averages, nil if they are the weights themselves.
  var emaWeights: Bool?
  var step: Int
  var sources: [Source]

  init(_ plan: MergePlan, optimizer: Bool) {
    (average, self.optimizer, emaWeights) = (plan.average?.text ?? "none", optimizer, plan.emaWeights ? true : nil)
    step = plan.last.step ?? 0
    sources = zip(plan.inputs, plan.weights).map { input, weight in
      let record = input.checkpoint?.manifest.record
      return Source(
        checkpoint: input.path, sha256: input.sha256, run: input.saved?.name, step: input.step,
        samples: record?.samples, weight: weight, version: record?.version)
    }
  }

  /// Reads the origin of a file of weights; nil if it was not merged.
  init?(in file: any NamedTensors) throws {
    guard let text = file.metadata[Self.key] else { return nil }
    do { self = try JSONDecoder().decode(MergeRecord.self, from: Data(text.utf8)) } catch {
      throw UserError(file.path, "its metadata \(Self.key) cannot be understood: \(error.explanation)")
    }
  }

  static let key = "kinship_merge"
}
