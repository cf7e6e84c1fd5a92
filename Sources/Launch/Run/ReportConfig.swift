import Settings

/// How often a line is logged.
struct LogConfig: Section {
  /// Steps between two lines.
  var every = 10
  /// Whether the same figures go to event files for TensorBoard.
  var tensorboard = true

  mutating func fields(_ map: FieldMap) {
    map.field("every", &every)
    map.field("tensorboard", &tensorboard)
  }
}

/// How often the run is saved. The last step is always saved.
struct CheckpointConfig: Section {
  /// Steps between two checkpoints; `none`: steps do not matter.
  var every: Int? = 1000
  /// Minutes between two checkpoints, by the clock of rank 0; `none`: time does not matter.
  var minutes: Double?
  /// How many of the newest are kept; `all`: every one.
  var keep: Int? = 3
  /// Checkpoints whose steps are a multiple of this are kept for good; `none`: no others than the newest.
  var keepEvery: Int?
  /// Whether training goes on while a checkpoint is written, from a copy.
  var background = true

  mutating func fields(_ map: FieldMap) {
    map.optional("every", &every, none: "none")
    map.optional("minutes", &minutes, none: "none")
    map.optional("keep", &keep, none: "all")
    map.optional("keep_every", &keepEvery, none: "none")
    map.field("background", &background)
  }
}

/// What is measured while the run goes on. With evaluations, the last step is always evaluated.
struct EvaluateConfig: Section {
  /// Steps between two rounds of evaluation; `none`: only after the last step.
  var every: Int?
  var evaluations: [EvaluationConfig] = []

  mutating func fields(_ map: FieldMap) {
    map.optional("every", &every, none: "none")
    map.field("evaluations", &evaluations)
  }
}

/// One evaluation.
struct EvaluationConfig: Section {
  var kind = Kind.retrieval
  /// The corpus to evaluate on: its index file or folder.
  var corpus = ""
  /// Zero-shot: a file with one class name a line, in the order of the labels; left out: those in the corpus's index.
  var classes: String?
  /// Zero-shot: a file with one prompt a line, `{}` standing for the class name; left out: the name alone.
  var templates: String?
  /// Zero-shot: a file with the names of the classes among which to choose, one a line; `present`: those of which the
  /// corpus has pictures; left out: all.
  var subset: String?
  /// Retrieval: which of a picture's captions take part; left out: all.
  var captions: RetrievalEvaluation.Captions?
  /// Retrieval: whether equal captions are one (hits) or only the corpus's own pairs count (strict); left out: hits.
  var duplicates: RetrievalEvaluation.Duplicates?

  enum Kind: String, CaseIterable, FieldValue {
    case retrieval
    case zeroShot = "zero-shot"
  }

  mutating func fields(_ map: FieldMap) {
    map.required("kind", &kind, Kind.expectation)
    map.required("corpus", &corpus, "the corpus to evaluate on")
    map.optional("classes", &classes)
    map.optional("templates", &templates)
    map.optional("subset", &subset)
    map.optional("captions", &captions)
    map.optional("duplicates", &duplicates)
  }
}
