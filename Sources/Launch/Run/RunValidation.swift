import Model
import Settings

extension RunConfig {
  /// Checks what no single value shows: ranges, combinations, and what belongs together. Every message names the key
  /// to change.
  func validate(_ problems: Problems) throws(RunFileError) {
    for (path, text) in mistakes {
      problems.add(problems.place(of: path) ?? .file("run file", line: 1, column: 1), "\(path): \(text)")
    }
    try problems.check()
  }

  /// What is wrong, by the path of the key to change.
  private var mistakes: [(path: String, text: String)] {
    runMistakes + start.mistakes + freezeMistakes + modelMistakes + (prune?.mistakes(steps: steps) ?? []) + dataMistakes
      + imageMistakes
      + reduce.mistakes + optimizerMistakes + (ema?.mistakes ?? []) + objective.mistakes
      + teacherMistakes
      + reportMistakes
      + nonFinite.mistakes
  }

  private var runMistakes: [(path: String, text: String)] {
    var found: [(path: String, text: String)] = []
    if name.isEmpty || name.contains("/") || name.hasPrefix(".") {
      found.append(("name", "expected the name of a folder, without / and not beginning with a dot, found \"\(name)\""))
    }
    if output.isEmpty { found.append(("output", "expected a folder, found \"\"")) }
    if vocabulary.isEmpty { found.append(("vocabulary", "expected a file, found \"\"")) }
    switch (steps, epochs) {
    case (nil, nil):
      found.append(("steps", "neither steps nor epochs is given; give one of them"))
    case (let steps?, let epochs?):
      found.append(
        ("steps", "both steps (\(steps)) and epochs (\(epochs)) are given; take one out, or set it to none"))
    case (let steps?, nil) where steps < 1: found.append(("steps", "expected at least 1, found \(steps)"))
    case (nil, let epochs?) where epochs < 1: found.append(("epochs", "expected at least 1, found \(epochs)"))
    default: break
    }
    if batch.global < 2 {
      found.append(("batch.global", "expected at least 2, found \(batch.global): a pair is told from other pairs"))
    }
    if let micro = batch.micro, micro < 1 {
      found.append(("batch.micro", "expected at least 1, or all, found \(micro)"))
    } else if let micro = batch.micro, micro > batch.global {
      found.append(
        ("batch.micro", "\(micro) is more than batch.global (\(batch.global)); lower it, or set it to all"))
    }
    return found
  }

  private var modelMistakes: [(path: String, text: String)] {
    guard model.isComplete else {
      let found = model.given.isEmpty ? "none of them" : model.given.joined(separator: ", ")
      return [("model", "expected either preset, or file, or embed_dim with vision_cfg and text_cfg; found \(found)")]
    }
    // A file is read when the run starts.
    guard model.file == nil else { return [] }
    do {
      _ = try model.resolved()
      return []
    } catch {
      return [(model.preset == nil ? "model" : "model.preset", "\(error)")]
    }
  }

  private var dataMistakes: [(path: String, text: String)] {
    var found: [(path: String, text: String)] = []
    if data.corpora.isEmpty { found.append(("data.corpora", "expected at least one corpus, found an empty list")) }
    for (index, corpus) in data.corpora.enumerated() {
      if corpus.path.isEmpty { found.append(("data.corpora.\(index).path", "expected a path, found \"\"")) }
      if corpus.weight <= 0 {
        found.append(("data.corpora.\(index).weight", "expected more than 0, found \(corpus.weight)"))
      }
      if let samples = corpus.samples, samples < 1 {
        found.append(("data.corpora.\(index).samples", "expected at least 1, found \(samples)"))
      }
    }
    if data.views < 0 { found.append(("data.views", "expected 0 (never repeat) or more, found \(data.views)")) }
    if let workers = data.workers, !(1...1024).contains(workers) {
      found.append(("data.workers", "expected 1 to 1024, or auto, found \(workers)"))
    }
    if !(1...64).contains(data.prefetch) {
      found.append(("data.prefetch", "expected 1 to 64 batches, found \(data.prefetch)"))
    }
    return found
  }

  private var imageMistakes: [(path: String, text: String)] {
    var found: [(path: String, text: String)] = []
    func pair(_ key: String, _ values: [Double], _ upper: Double, _ range: String) {
      if values.count != 2 || values[0] <= 0 || values[0] > values[1] || values[1] > upper {
        found.append(("image.\(key)", "expected [from, to] with \(range), found \(values)"))
      }
    }
    pair("scale", image.scale, 1, "0 < from ≤ to ≤ 1")
    pair("ratio", image.ratio, .infinity, "0 < from ≤ to")
    if image.mean.count != 3 { found.append(("image.mean", "expected [red, green, blue], found \(image.mean)")) }
    if image.std.count != 3 || image.std.contains(where: { $0 <= 0 }) {
      found.append(("image.std", "expected [red, green, blue], each more than 0, found \(image.std)"))
    }
    func inside(_ key: String, _ value: Double, _ range: ClosedRange<Double>) {
      guard !range.contains(value) else { return }
      let wanted = range.upperBound == .infinity ? "0 or more" : "\(range.lowerBound) to \(range.upperBound)"
      found.append(("image.\(key)", "expected \(wanted), found \(value)"))
    }
    inside("color_jitter.brightness", image.colorJitter.brightness, 0...(.infinity))
    inside("color_jitter.contrast", image.colorJitter.contrast, 0...(.infinity))
    inside("color_jitter.saturation", image.colorJitter.saturation, 0...(.infinity))
    inside("color_jitter.hue", image.colorJitter.hue, 0...0.5)
    inside("color_jitter.probability", image.colorJitter.probability, 0...1)
    inside("grayscale", image.grayscale, 0...1)
    if !(1...1 << 40).contains(image.maxPixels) {
      found.append(("image.max_pixels", "expected 1 to \(1 << 40) pixels, found \(image.maxPixels)"))
    }
    return found
  }

  private var optimizerMistakes: [(path: String, text: String)] {
    var found: [(path: String, text: String)] = []
    if optimizer.rate <= 0 { found.append(("optimizer.rate", "expected more than 0, found \(optimizer.rate)")) }
    if optimizer.weightDecay < 0 {
      found.append(("optimizer.weight_decay", "expected 0 or more, found \(optimizer.weightDecay)"))
    }
    if let decay = optimizer.headDecay, decay < 0 {
      found.append(("optimizer.head_decay", "expected 0 or more, or auto, found \(decay)"))
    }
    if let betas = optimizer.betas, betas.count != 2 || betas.contains(where: { !(0..<1).contains($0) }) {
      found.append(("optimizer.betas", "expected two numbers from 0 to below 1, or auto, found \(betas)"))
    }
    if let eps = optimizer.eps, eps <= 0 {
      found.append(("optimizer.eps", "expected more than 0, or auto, found \(eps)"))
    }
    if optimizer.warmup < 0 {
      found.append(("optimizer.warmup", "expected 0 steps or more, found \(optimizer.warmup)"))
    }
    if let norm = optimizer.clipNorm, norm <= 0 {
      found.append(("optimizer.clip_norm", "expected more than 0, or none, found \(norm)"))
    }
    return found
  }

  private var reportMistakes: [(path: String, text: String)] {
    var found: [(path: String, text: String)] = []
    func atLeastOne(_ path: String, _ value: Int?, orWord word: String = "") {
      if let value, value < 1 { found.append((path, "expected at least 1\(word), found \(value)")) }
    }
    atLeastOne("log.every", log.every)
    atLeastOne("checkpoint.every", checkpoint.every, orWord: ", or none")
    atLeastOne("checkpoint.keep_every", checkpoint.keepEvery, orWord: ", or none")
    if let minutes = checkpoint.minutes, !(minutes > 0 && minutes.isFinite) {
      found.append(("checkpoint.minutes", "expected more than 0, or none, found \(minutes)"))
    }
    atLeastOne("checkpoint.keep", checkpoint.keep, orWord: ", or all")
    atLeastOne("evaluate.every", evaluate.every, orWord: ", or none")
    if !(0...1e9).contains(watchdog.deadline) {
      found.append(("watchdog.deadline", "expected 0 (never) to 1e9 seconds, found \(watchdog.deadline)"))
    }
    if evaluate.every != nil, evaluate.evaluations.isEmpty {
      found.append(("evaluate.evaluations", "evaluate.every is given, but there is nothing to evaluate"))
    }
    for (index, evaluation) in evaluate.evaluations.enumerated() {
      let path = "evaluate.evaluations.\(index)"
      if evaluation.corpus.isEmpty { found.append(("\(path).corpus", "expected a path, found \"\"")) }
      if evaluation.kind == .retrieval, evaluation.classes ?? evaluation.templates ?? evaluation.subset != nil {
        found.append((path, "classes, templates and subset belong to kind zero-shot; this is kind retrieval"))
      }
      if evaluation.kind == .zeroShot, evaluation.captions != nil || evaluation.duplicates != nil {
        found.append((path, "captions and duplicates belong to kind retrieval; this is kind zero-shot"))
      }
    }
    return found
  }

  /// What is allowed but rarely meant; shown when the run starts.
  func warnings(totalSteps: Int) -> [String] {
    let found = teacherWarnings + freezeWarnings + objective.warnings(totalSteps: totalSteps)
    guard prune == nil, optimizer.warmup >= totalSteps else { return found }
    return found + [
      "optimizer.warmup (\(optimizer.warmup) steps) does not end within the run (\(totalSteps) steps):"
        + " the rate never reaches optimizer.rate; lower optimizer.warmup"
    ]
  }
}
