import Settings

struct LogConfig: Section {
  /// The number of steps between two lines.
  var every = 10
  /// True to write the same figures to event files for TensorBoard.
  var tensorboard = true
  /// The number of steps between two measurements of each term's gradient, each of which has a line; 0: none.
  var termGradients = 0

  /// Returns whether the step after which `done` steps are done measures them.
  func measuresTermGradients(at done: Int) -> Bool { termGradients > 0 && done % termGradients == 0 }

  mutating func fields(_ map: FieldMap) {
    map.field("every", &every)
    map.field("tensorboard", &tensorboard)
    map.field("term_gradients", &termGradients)
  }
}

/// The checkpoints of a run. The last step is always saved.
struct CheckpointConfig: Section {
  /// The number of steps between two checkpoints; `none`: none is due by steps.
  var every: Int? = 1000
  /// The minutes between two checkpoints by the clock of rank 0; `none`: none is due by time.
  var minutes: Double?
  /// The number of checkpoints that are kept, the newest ones; `all`: every one.
  var keep: Int? = 3
  /// Checkpoints at multiples of this step are kept for good; `none`: only the newest are kept.
  var keepEvery: Int?
  /// True to go on with the training while a checkpoint is written from a copy.
  var background = true
  /// The ranks that share a file of a checkpoint.
  var parts = Parts.rank

  /// `rank` gives each rank a file of its own, `node` one file to all ranks of a node.
  enum Parts: String, CaseIterable, FieldValue { case rank, node }

  mutating func fields(_ map: FieldMap) {
    map.optional("every", &every, none: "none")
    map.optional("minutes", &minutes, none: "none")
    map.optional("keep", &keep, none: "all")
    map.optional("keep_every", &keepEvery, none: "none")
    map.field("background", &background)
    map.field("parts", &parts)
  }
}

/// The evaluations during a run. If there are any, the last step is always evaluated.
struct EvaluateConfig: Section {
  /// The number of steps between two rounds of evaluation; `none`: only the last step is evaluated.
  var every: Int?
  /// The figure by which the best checkpoint is kept beside the newest, as the log names it: `retrieval val/i2t R@1`,
  /// or `i2t R@1` if one evaluation has it; `none`: no checkpoint is the best.
  var keepBest: String?
  /// The rounds without a new best after which the run ends; `none`: it ends after its last step.
  var patience: Int?
  var evaluations: [EvaluationConfig] = []

  mutating func fields(_ map: FieldMap) {
    map.optional("every", &every, none: "none")
    map.optional("keep_best", &keepBest, none: "none")
    map.optional("patience", &patience, none: "none")
    map.field("evaluations", &evaluations)
  }

  /// The header's line about the best checkpoint; nil if none is kept.
  func text(_ metric: Metric?) -> String? {
    metric.map { metric in
      "keeps the best checkpoint by \(metric.name), \(metric.lowerIsBetter ? "lower" : "higher") is better"
        + (patience.map { "; ends after \(Figures.count($0, "evaluation")) without a new best" } ?? "")
    }
  }
}

struct EvaluationConfig: Section {
  var kind = Kind.retrieval
  var dataset = ""
  /// Zero-shot: a file of class names, one a line, in the order of the labels. Default: those in the dataset's index.
  var classes: String?
  /// Zero-shot: a file of prompts, one a line, in which `{}` stands for the class name. Default: the name alone.
  var templates: String?
  /// Zero-shot: a file of the classes to choose from, one a line; `present`: those with images. Default: all classes.
  var subset: String?
  /// Retrieval: the captions of an image that take part; all if it is left out.
  var captions: RetrievalEvaluation.Captions?
  /// Retrieval: `hits`, the default, counts equal captions as one, `strict` counts only the dataset's own pairs.
  var duplicates: RetrievalEvaluation.Duplicates?

  enum Kind: String, CaseIterable, FieldValue {
    case retrieval
    case zeroShot = "zero-shot"
    /// The run's own objective over whole batches of a held-out dataset.
    case loss
  }

  mutating func fields(_ map: FieldMap) {
    map.required("kind", &kind, Kind.expectation)
    map.required("dataset", &dataset, "the dataset to evaluate on")
    map.optional("classes", &classes)
    map.optional("templates", &templates)
    map.optional("subset", &subset)
    map.optional("captions", &captions)
    map.optional("duplicates", &duplicates)
  }
}
