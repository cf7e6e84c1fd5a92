import Dist
import Foundation
import Model
import Tensor

/// The inputs of a merge: checkpoints that are complete and hold the same model, and the weight of each.
struct MergePlan {
  struct Input {
    let checkpoint: Checkpoint
    let saved: SavedRun
    let weight: Double
  }

  let inputs: [Input]
  let average: Average?
  /// If true, the moving averages of runs are merged, and not their weights.
  let emaWeights: Bool
  let config: CLIPConfig
  /// The checkpoint with the most steps, whose run and counts stand for all.
  let last: Input

  /// Opens the checkpoints, or the latest one of a run's folder. Every rank must call it.
  init(_ paths: [String], _ average: Average?, emaWeights: Bool, over communicator: Communicator) throws {
    if let path = paths.first(where: { WeightsFile.find($0) != nil }) {
      throw UserError(
        path,
        "holds weights and no checkpoint, and kinship merge makes weights of checkpoints; to convert weights, use "
          + "kinship weights export")
    }
    let checkpoints = try paths.map { try Checkpoint.open(TrainedModel.checkpoint($0), communicator: communicator) }
    var folders: Set<String> = []
    if let twice = checkpoints.first(where: { !folders.insert($0.folder).inserted }) {
      throw UserError(twice.folder, "is named twice; name each checkpoint once", status: .usage)
    }
    if emaWeights, let other = checkpoints.first(where: { !$0.manifest.isAveraged }) {
      throw UserError(
        other.folder, "holds no moving average of the weights: its run had no ema; leave --ema-weights out")
    }
    let steps = checkpoints.map(\.manifest.record.step)
    if case .ema = average, let place = steps.indices.dropFirst().first(where: { steps[$0] <= steps[$0 - 1] }) {
      let order = "comes after \(checkpoints[place - 1].folder) with \(steps[place - 1])"
      let fix = "--ema takes checkpoints in the order of their steps"
      throw UserError(checkpoints[place].folder, "has \(steps[place]) steps and \(order); \(fix)", status: .usage)
    }
    let weights = average?.weights(of: checkpoints.count) ?? [1]
    inputs = try zip(checkpoints, weights).map { Input(checkpoint: $0, saved: try SavedRun($0), weight: $1) }
    (self.average, self.emaWeights) = (average, emaWeights)
    config = try CLIPConfig(json: Data(inputs[0].saved.model.utf8))
    last = inputs[steps.lastIndex(of: steps.max() ?? 0) ?? 0]
    let problems = try inputs.dropFirst().flatMap { try Self.mismatches(inputs[0], $0) }
    guard problems.isEmpty else {
      let reason = "another checkpoint does not hold the same model, so they have no average"
      throw UserError(inputs[0].checkpoint.folder, "\(reason):\n  " + problems.joined(separator: "\n  "))
    }
  }

  /// Lists the differences between the models of `one` and `other`.
  private static func mismatches(_ one: Input, _ other: Input) throws -> [String] {
    var found = CheckpointMerge.mismatches(one.checkpoint, other.checkpoint, leaving: .objective)
    let (first, second) = (try leaves(one.saved.model), try leaves(other.saved.model))
    for key in Set(first.keys).union(second.keys).sorted() where first[key] != second[key] {
      found.append("the model's \(key) is \(second[key] ?? "not given"), not \(first[key] ?? "given")")
    }
    if one.saved.image != other.saved.image { found.append("its images are prepared in another way") }
    if one.saved.vocabularySHA256 != other.saved.vocabularySHA256 {
      found.append("it has another vocabulary (\(other.saved.vocabulary), SHA-256 \(other.saved.vocabularySHA256))")
    }
    return found.map { "\(other.checkpoint.folder): \($0)" }
  }

  /// Returns every value of a JSON object by its path.
  private static func leaves(_ json: String) throws -> [String: String] {
    var found: [String: String] = [:]
    func walk(_ value: Any, _ path: String) {
      if let object = value as? [String: Any] {
        for (key, value) in object { walk(value, path.isEmpty ? key : "\(path).\(key)") }
      } else {
        found[path] = "\(value)"
      }
    }
    walk(try JSONSerialization.jsonObject(with: Data(json.utf8)), "")
    return found
  }

  /// Returns the tensors of the merged file: the model, and with `optimizer` everything else too.
  func tensors(optimizer: Bool) throws -> [MergedTensor] {
    let parameters = last.checkpoint.manifest.parameters
    let layout = CLIP<Float>.layout(config)
    var tensors = parameters.filter { optimizer || NamedSlice.Owner(of: $0.name) == .model }
      .map { MergedTensor.values(of: $0.name, $0.shape, averaged: emaWeights) }
    tensors += try layout.buffers.map { buffer in
      // A mean of counts would mean nothing.
      guard !buffer.isCount else { return .array(try array(buffer.name, in: last), as: .int64) }
      let all = try inputs.map { (try array(buffer.name, in: $0).values, $0.weight) }
      let mean = (0..<buffer.shape.count).map { at in all.reduce(0) { $0 + $1.1 * $1.0[at] } }
      return .array(.init(name: buffer.name, shape: buffer.shape.array, values: mean), as: .float32)
    }
    guard optimizer else { return tensors }
    tensors += parameters.flatMap { MergedTensor.moments(of: $0.name, $0.shape) }
    if last.checkpoint.manifest.isAveraged { tensors += parameters.map { MergedTensor.average(of: $0.name, $0.shape) } }
    let buffers = Set(layout.buffers.map(\.name))
    let others = last.checkpoint.manifest.record.arrays.filter { !buffers.contains($0.name) }
    return tensors + others.map { .array($0, as: .float64) }
  }

  private func array(_ name: String, in input: Input) throws -> CheckpointRecord.Array {
    let stored = emaWeights ? MergedTensor.averagePrefix + name : name
    let array = input.checkpoint.manifest.record.arrays.first { $0.name == stored }
    guard let array, array.shape == CLIP<Float>.layout(config).buffer(named: name)?.shape.array else {
      throw UserError(input.checkpoint.folder, "does not hold the buffer \(name) of its model")
    }
    return .init(name: name, shape: array.shape, values: array.values)
  }

  /// Returns the metadata of the merged file, which can then be used without any other file.
  func metadata(optimizer: Bool) throws -> [String: String] {
    var metadata = ModelFiles.metadata(config)
    let sizes = try ModelFiles.json(config, preprocessing: last.saved.image)
    metadata[ModelFiles.configKey] = String(decoding: sizes, as: UTF8.self)
    metadata[SavedRun.key] = last.checkpoint.manifest.record.run
    metadata[MergeRecord.key] = try MergeRecord(self, optimizer: optimizer).jsonText()
    metadata["kinship_version"] = Release.version
    return metadata
  }
}

/// The origin of a merged file, as JSON in its metadata entry or attribute `kinship_merge`.
struct MergeRecord: Codable {
  struct Source: Codable {
    var checkpoint: String
    /// The SHA-256 of the checkpoint's manifest, which has the checksums of all parts.
    var sha256: String
    var run: String
    var step, samples: Int
    /// The factor of its numbers.
    var weight: Double
    var version: String
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
    step = plan.last.checkpoint.manifest.record.step
    sources = plan.inputs.map { input in
      let record = input.checkpoint.manifest.record
      return Source(
        checkpoint: input.checkpoint.folder, sha256: input.checkpoint.sha256, run: input.saved.name,
        step: record.step, samples: record.samples, weight: input.weight, version: record.version)
    }
  }

  static let key = "kinship_merge"
}
