import Dist
import Foundation
import Model
import Tensor

/// A model that is merged: a checkpoint, or weights without one.
struct MergeInput {
  private enum Content {
    case checkpoint(Checkpoint)
    case weights(any NamedTensors, WeightsMatch)
  }

  private let content: Content
  /// The checkpoint's folder, or the file of weights.
  let path: String
  /// The SHA-256 of the checkpoint's manifest, which has the checksums of all parts, or that of the weights.
  let sha256: String
  /// The run that trained the model, also as the JSON that its checkpoints have; nil for one of another program.
  let saved: SavedRun?
  let run: String?
  /// The number of steps of that run, if it is known.
  let step: Int?
  let config: CLIPConfig
  let image: ImageOptions
  /// The shapes of the model's parameters.
  let shapes: [String: [Int]]

  /// Opens a checkpoint, a run's latest one, or weights of the sizes beside them or in `options`. Throws a `UserError`
  /// (exit code 65) for weights that do not fit these sizes. Every rank must call it.
  init(_ input: String, _ options: WeightsOptions, over ranks: Communicator) throws {
    guard let file = try WeightsFile.find(input, over: ranks) else {
      let checkpoint = try Checkpoint.open(TrainedModel.checkpoint(input), communicator: ranks)
      let (trained, record) = (try SavedRun(checkpoint), checkpoint.manifest.record)
      (content, path, sha256) = (.checkpoint(checkpoint), checkpoint.folder, checkpoint.sha256)
      (saved, run, step) = (trained, record.run, record.step)
      (config, image) = (try trained.config(in: checkpoint.folder), trained.image)
      let parameters = checkpoint.manifest.parameters.filter { NamedSlice.Owner(of: $0.name) == .model }
      shapes = Dictionary(uniqueKeysWithValues: parameters.map { ($0.name, $0.shape) })
      return
    }
    let source = try ForeignModel(file, config: options.config, preset: options.preset)
    let layout = CLIP<Float>.layout(source.config)
    let match = WeightsMatch(source.form, source.config, layout)
    let problems = try match.mismatches(in: source.file)
    guard problems.isEmpty else {
      throw UserError(file, "does not fit the sizes of \(source.source):" + WeightsMatch.list(problems))
    }
    let sum = try ranks.sha256(of: file) { try SHA256.ofWeights(source.file) }
    try ranks.requireSameFile("weights", file, sha256: sum)
    (content, path, sha256) = (.weights(source.file, match), file, sum)
    (saved, run) = (try SavedRun(in: source.file), source.file.metadata[SavedRun.key])
    step = try MergeRecord(in: source.file)?.step
    (config, image) = (source.config, saved?.image ?? source.preprocessing)
    shapes = Dictionary(uniqueKeysWithValues: layout.entries.map { ($0.name, $0.shape.array) })
  }

  var checkpoint: Checkpoint? { if case .checkpoint(let checkpoint) = content { checkpoint } else { nil } }

  /// The parameters as a merge reads them.
  var source: CheckpointMerge.Source {
    switch content {
    case .checkpoint(let checkpoint): return .checkpoint(checkpoint)
    case .weights(let file, let match):
      let shapes = shapes
      return .weights { name, elements, values in
        let shape = shapes[name].flatMap { Shape($0) } ?? Shape(values.count)
        try match.read(name, shape, elements, from: file, into: values)
      }
    }
  }

  /// Returns the numbers of a buffer; with `averaged`, those of its moving average if this is a checkpoint.
  func numbers(_ buffer: ParameterStore<Float>.BufferEntry, averaged: Bool) throws -> [Double] {
    switch content {
    case .checkpoint(let checkpoint):
      let stored = (averaged ? MergedTensor.averagePrefix : "") + buffer.name
      let array = checkpoint.manifest.record.arrays.first { $0.name == stored }
      guard let array, array.shape == buffer.shape.array else {
        throw UserError(path, "does not hold the buffer \(buffer.name) of its model")
      }
      return array.values
    case .weights(let file, _):
      if buffer.isCount { return try file.integers(buffer.name).map { Double($0) } }
      let values = Tensor<Double>(buffer.shape)
      try file.read(buffer.name, into: values)
      return values.array
    }
  }

  /// Lists the differences between another model and this one.
  func mismatches(_ other: MergeInput) throws -> [String] {
    var found = Set(shapes.keys).union(other.shapes.keys).sorted().compactMap { name -> String? in
      switch (shapes[name], other.shapes[name]) {
      case (let shape?, nil): "parameter \(name) \(shape) is missing"
      case (nil, let shape?): "unexpected parameter \(name) \(shape)"
      case (let shape, let theirs):
        shape == theirs ? nil : "parameter \(name) has the shape \(theirs ?? []), expected \(shape ?? [])"
      }
    }
    found += try config.differences(from: other.config)
    // A file does not say how images are prepared in training, and seldom what becomes of transparency.
    let isSame =
      saved != nil && other.saved != nil ? image == other.image : image.isNormalizedAndResized(as: other.image)
    if !isSame { found.append("its images are prepared in another way") }
    if let saved, let theirs = other.saved, theirs.vocabularySHA256 != saved.vocabularySHA256 {
      found.append("it has another vocabulary (\(theirs.vocabulary), SHA-256 \(theirs.vocabularySHA256))")
    }
    return found.map { "\(other.path): \($0)" }
  }
}

extension ImageOptions {
  /// Returns whether evaluations see the same pixels of opaque images with these options and with others.
  func isNormalizedAndResized(as other: ImageOptions) -> Bool {
    size == other.size && mean == other.mean && std == other.std && resize == other.resize
  }
}

extension CLIPConfig {
  /// Lists the sizes of another model that differ from this one's. Neither the value at which a logit bias began is
  /// one, nor the share of patches that training drops: a run may have changed it on its way.
  func differences(from other: CLIPConfig) throws -> [String] {
    let (first, second) = (try leaves, try other.leaves)
    return Set(first.keys).union(second.keys).sorted().compactMap { key in
      guard first[key] != second[key] else { return nil }
      return "the model's \(key) is \(second[key] ?? "not given"), not \(first[key] ?? "given")"
    }
  }

  /// Every value of the model's JSON by its path.
  private var leaves: [String: String] {
    get throws {
      var found: [String: String] = [:]
      func walk(_ value: Any, _ path: String) {
        if let object = value as? [String: Any] {
          for (key, value) in object { walk(value, path.isEmpty ? key : "\(path).\(key)") }
        } else {
          found[path] = "\(value)"
        }
      }
      var config = self
      config.initialLogitBias = initialLogitBias.map { _ in Self.usualLogitBias }
      config.vision.patchDropout = 0
      walk(try JSONSerialization.jsonObject(with: config.json), "")
      return found
    }
  }
}
