import Model
import Settings

extension RunConfig {
  /// Checks the ranges of the values and their combinations. Every message names the key to change.
  ///
  /// - Throws: a `RunFileError` with all mistakes.
  func validate(_ problems: Problems) throws(RunFileError) {
    for (path, text) in mistakes {
      problems.add(problems.place(of: path) ?? .file("run file", line: 1, column: 1), "\(path): \(text)")
    }
    try problems.check()
  }

  /// The mistakes, by the path of the key to change.
  private var mistakes: [(path: String, text: String)] {
    runMistakes + start.mistakes + freezeMistakes + modelMistakes + (prune?.mistakes(steps: steps) ?? []) + dataMistakes
      + image.mistakes + reduce.mistakes + optimizerMistakes + (ema?.mistakes ?? []) + objective.mistakes
      + teacherMistakes + reportMistakes + nonFinite.mistakes
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
      found.append(("batch.global", "expected at least 2, found \(batch.global): a pair is compared with others"))
    }
    if let microBatchSize = batch.microBatchSize, microBatchSize < 1 {
      found.append(("batch.micro_batch_size", "expected at least 1, or all, found \(microBatchSize)"))
    } else if let microBatchSize = batch.microBatchSize, microBatchSize > batch.global {
      found.append(
        (
          "batch.micro_batch_size",
          "\(microBatchSize) is more than batch.global (\(batch.global)); lower it, or set it to all"
        ))
    }
    return found
  }

  private var modelMistakes: [(path: String, text: String)] {
    guard model.isComplete else {
      let found = model.given.isEmpty ? "none of them" : model.given.joined(separator: ", ")
      return [("model", "expected either preset, or file, or embed_dim with vision_cfg and text_cfg; found \(found)")]
    }
    // A file is not read before the run starts.
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
    if data.datasets.isEmpty { found.append(("data.datasets", "expected at least one dataset, found an empty list")) }
    for (index, dataset) in data.datasets.enumerated() {
      if dataset.path.isEmpty { found.append(("data.datasets.\(index).path", "expected a path, found \"\"")) }
      if dataset.weight <= 0 {
        found.append(("data.datasets.\(index).weight", "expected more than 0, found \(dataset.weight)"))
      }
      if let samples = dataset.samples, samples < 1 {
        found.append(("data.datasets.\(index).samples", "expected at least 1, found \(samples)"))
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

  private var optimizerMistakes: [(path: String, text: String)] {
    var found: [(path: String, text: String)] = []
    if optimizer.learningRate <= 0 {
      found.append(("optimizer.learning_rate", "expected more than 0, found \(optimizer.learningRate)"))
    }
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
      if evaluation.dataset.isEmpty { found.append(("\(path).dataset", "expected a path, found \"\"")) }
      if evaluation.kind == .retrieval, evaluation.classes ?? evaluation.templates ?? evaluation.subset != nil {
        found.append((path, "classes, templates and subset belong to kind zero-shot; this is kind retrieval"))
      }
      if evaluation.kind == .zeroShot, evaluation.captions != nil || evaluation.duplicates != nil {
        found.append((path, "captions and duplicates belong to kind retrieval; this is kind zero-shot"))
      }
    }
    return found
  }

  /// Returns the warnings about values that are allowed but rarely intended, which are shown when the run starts.
  func warnings(totalSteps: Int) -> [String] {
    let found = teacherWarnings + freezeWarnings + objective.warnings(totalSteps: totalSteps)
    guard prune == nil, optimizer.warmup >= totalSteps else { return found }
    return found + [
      "optimizer.warmup (\(optimizer.warmup) steps) does not end within the run (\(totalSteps) steps):"
        + " the rate never reaches optimizer.learning_rate; lower optimizer.warmup"
    ]
  }
}
