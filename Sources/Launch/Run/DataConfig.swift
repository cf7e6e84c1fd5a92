import Settings

/// What is trained on, and how it is read.
struct DataConfig: Section {
  /// Several corpora are mixed by weight.
  var corpora: [CorpusConfig] = []
  /// Seed of crops and of the choice of a caption; `seed` at the top rules initial values and order.
  var seed: UInt64 = 0
  /// How many different crops of a picture there are, view = epoch mod views; 0: never the same again.
  var views = 0
  /// Threads that read and decode, on each rank; `auto`: from the cores that the rank is bound to.
  var workers: Int?
  /// Batches that are prepared ahead of the step.
  var prefetch = 2
  /// Whether an epoch's last incomplete batch is filled from the epoch's beginning; otherwise it is dropped.
  var wrap = false
  /// Which caption of a picture is shown where there are several.
  var captions = Captions.random
  /// How corpora are checked before the first step.
  var verify = Verification.checksums

  enum Captions: String, CaseIterable, FieldValue { case random, first }

  /// `checksums` reads every shard once; `sizes` only compares file sizes with the index.
  enum Verification: String, CaseIterable, FieldValue { case checksums, sizes }

  mutating func fields(_ map: FieldMap) {
    map.required("corpora", &corpora, "the corpora to train on, such as [data/emoji]")
    map.field("seed", &seed)
    map.field("views", &views)
    map.optional("workers", &workers, none: "auto")
    map.field("prefetch", &prefetch)
    map.field("wrap", &wrap)
    map.field("captions", &captions)
    map.field("verify", &verify)
  }
}

/// One corpus of the mix. A plain text is a path with weight 1.
struct CorpusConfig: Section {
  /// The corpus's index file or folder; a relative path is looked up from the working folder.
  var path = ""
  /// How many times as often its samples are shown as those of a corpus of weight 1.
  var weight = 1.0
  /// How many pictures it has, for dry runs on a machine where it is not; training counts for itself.
  var samples: Int?

  mutating func fields(_ map: FieldMap) {
    map.required("path", &path, "the corpus's index file or folder")
    map.field("weight", &weight)
    map.optional("samples", &samples)
  }

  static var expectation: String { "a path, or a section (path, weight, samples)" }

  static func shorthandKey(_ text: String) -> String? { "path" }
}

extension CorpusConfig {
  init(path: String) {
    self.init()
    self.path = path
  }
}
