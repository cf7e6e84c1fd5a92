import Model
import Settings

extension Array where Element == Mistake {
  /// Notes a value that is not right. Nil, which stands for a word or a default, is always right.
  mutating func expect<Value>(_ expected: String, _ path: String, _ value: Value?, _ isRight: (Value) -> Bool) {
    if let value, !isRight(value) { append((path, "expected \(expected), found \(value)")) }
  }

  /// Notes a text that is given and empty.
  mutating func expectText(_ expected: String, _ path: String, _ value: String?) {
    if value == "" { append((path, "expected \(expected), found \"\"")) }
  }

  mutating func require(_ isRight: Bool, _ path: String, _ text: @autoclosure () -> String) {
    if !isRight { append((path, text())) }
  }
}

extension RunConfig {
  /// Checks the ranges of the values and their combinations. Every message names the key to change. Throws a
  /// `RunFileError` with all mistakes.
  func validate(_ problems: Problems) throws(RunFileError) {
    for (path, text) in mistakes {
      problems.add(problems.place(of: path) ?? .file("run file", line: 1, column: 1), "\(path): \(text)")
    }
    try problems.check()
  }

  private var mistakes: [Mistake] {
    runMistakes + start.mistakes + freezeMistakes + modelMistakes + (prune?.mistakes(steps: steps) ?? [])
      + data.mistakes + image.mistakes + reduce.mistakes + optimizer.mistakes + (ema?.mistakes ?? [])
      + objective.mistakes + teacherMistakes + reportMistakes
  }

  private var runMistakes: [Mistake] {
    var found: [Mistake] = []
    found.require(
      !name.isEmpty && !name.contains("/") && !name.hasPrefix("."), "name",
      "expected the name of a folder, without / and not beginning with a dot, found \"\(name)\"")
    found.expectText("a folder", "output", output)
    found.expectText("a file", "vocabulary", vocabulary)
    switch (steps, epochs) {
    case (nil, nil): found.append(("steps", "neither steps nor epochs is given; give one of them"))
    case (let steps?, let epochs?):
      found.append(("steps", "both steps (\(steps)) and epochs (\(epochs)) are given; take one out, or set it to none"))
    default:
      found.expect("at least 1", "steps", steps) { $0 >= 1 }
      found.expect("at least 1", "epochs", epochs) { $0 >= 1 }
    }
    let global = batch.global
    found.require(global >= 2, "batch.global", "expected at least 2, found \(global): a pair is compared with others")
    found.require(
      global <= 1 << 31, "batch.global", "expected at most 2³¹, as many as an epoch can have, found \(global)")
    found.expect("at least 1, or all", "batch.micro_batch_size", batch.microBatchSize) { $0 >= 1 }
    if let micro = batch.microBatchSize, micro >= 1, micro > global {
      let text = "\(micro) is more than batch.global (\(global)); lower it, or set it to all"
      found.append(("batch.micro_batch_size", text))
    }
    return found
  }

  private var modelMistakes: [Mistake] {
    guard model.isComplete else {
      let found = model.given.isEmpty ? "none of them" : model.given.joined(separator: ", ")
      return [("model", "expected either preset, or file, or embed_dim with vision_cfg and text_cfg; found \(found)")]
    }
    // A file is not read before the run starts.
    guard model.file == nil else { return [] }
    do {
      _ = try model.resolved()
      return []
    } catch { return [(model.preset == nil ? "model" : "model.preset", "\(error)")] }
  }

  private var reportMistakes: [Mistake] {
    var found: [Mistake] = []
    found.expect("at least 1", "log.every", log.every) { $0 >= 1 }
    found.expect("0 (never) or more", "log.term_gradients", log.termGradients) { $0 >= 0 }
    found.require(
      log.termGradients == 0 || data.captions != .all, "log.term_gradients",
      "is measured for one caption of each image, and data.captions is all; set it to 0, or data.captions to random")
    found.expect("at least 1, or none", "checkpoint.every", checkpoint.every) { $0 >= 1 }
    found.expect("at least 1, or none", "checkpoint.keep_every", checkpoint.keepEvery) { $0 >= 1 }
    found.expect("more than 0, or none", "checkpoint.minutes", checkpoint.minutes) { $0 > 0 && $0.isFinite }
    found.expect("at least 1, or all", "checkpoint.keep", checkpoint.keep) { $0 >= 1 }
    found.expect("at least 1, or none", "evaluate.every", evaluate.every) { $0 >= 1 }
    found.expect("0 (never) to 1e9 seconds", "watchdog.deadline", watchdog.deadline) { 0...1e9 ~= $0 }
    found.require(
      evaluate.every == nil || !evaluate.evaluations.isEmpty, "evaluate.evaluations",
      "is empty, and evaluate.every is given; name what to evaluate, or set evaluate.every to none")
    found.expectText("a figure of an evaluation", "evaluate.keep_best", evaluate.keepBest)
    found.require(
      evaluate.keepBest == nil || !evaluate.evaluations.isEmpty, "evaluate.keep_best",
      "is given, and evaluate.evaluations is empty; name what to evaluate, or set evaluate.keep_best to none")
    found.expect("at least 1, or none", "evaluate.patience", evaluate.patience) { $0 >= 1 }
    found.require(
      evaluate.patience == nil || evaluate.keepBest != nil && evaluate.every != nil, "evaluate.patience",
      "counts rounds of evaluation without a new best; give evaluate.every and evaluate.keep_best too, or set "
        + "evaluate.patience to none")
    for (index, evaluation) in evaluate.evaluations.enumerated() {
      let path = "evaluate.evaluations.\(index)"
      let kind = evaluation.kind
      found.expectText("a path", "\(path).dataset", evaluation.dataset)
      found.require(
        kind == .zeroShot || evaluation.classes ?? evaluation.templates ?? evaluation.subset == nil, path,
        "classes, templates and subset belong to kind zero-shot; this is kind \(kind.rawValue)")
      found.require(
        kind == .retrieval || evaluation.captions == nil && evaluation.duplicates == nil, path,
        "captions and duplicates belong to kind retrieval; this is kind \(kind.rawValue)")
    }
    found.expect("at least 1", "non_finite.limit", nonFinite.limit) { $0 >= 1 }
    return found
  }

  /// Returns the warnings about values that are allowed but rarely intended, which are shown when the run starts.
  func warnings(totalSteps: Int) -> [String] {
    var found = teacherWarnings + freezeWarnings + objective.warnings(totalSteps: totalSteps)
    if let prune, prune.ramp > prune.step {
      found.append(
        "prune.ramp (\(prune.ramp) steps) does not end before the cut (prune.step is \(prune.step)): the target is "
          + "still below prune.sparsity then; lower prune.ramp")
    }
    guard prune == nil, optimizer.warmup >= totalSteps else { return found }
    return found + [
      "optimizer.warmup (\(optimizer.warmup) steps) does not end within the run (\(totalSteps) steps):"
        + " the rate never reaches optimizer.learning_rate; lower optimizer.warmup"
    ]
  }
}
