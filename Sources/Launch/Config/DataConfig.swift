import Settings

/// The training data, and how they are read.
struct DataConfig: Section {
  /// The path of the list of datasets in a run file.
  static let list = "data.datasets"

  /// The datasets, which are mixed by weight; one alone may stand without brackets.
  var datasets: [DatasetConfig] = []
  /// Seed of crops and of the choice of captions; the run's `seed` is that of initial values and of the order.
  var seed: UInt64 = 0
  /// The number of different crops of an image, of which view = epoch mod views is shown; 0: each epoch has new ones.
  var views = 0
  /// The number of threads of each rank that read and decode; `auto`: it depends on the rank's cores.
  var workers: Int?
  /// The number of batches that are prepared ahead of the step.
  var prefetch = 2
  /// True to fill an epoch's last incomplete batch from the epoch's beginning, false to drop it.
  var wrap = false
  /// The captions that are shown of an image with several.
  var captions = Captions.random
  /// The check of the datasets before the first step.
  var verify = Verification.checksums
  /// The folder on each node's own disk to which shards and teacher caches are copied, and from which they are read.
  var stage: String?

  enum Captions: String, CaseIterable, FieldValue {
    case random, first
    /// Each caption has a loss of its own, and the losses are added.
    case all
  }

  /// `checksums` reads every shard once; `sizes` compares only the sizes of the files with the index.
  enum Verification: String, CaseIterable, FieldValue { case checksums, sizes }

  mutating func fields(_ map: FieldMap) {
    map.required("datasets", &datasets, "the datasets to train on, such as [data/emoji]")
    map.field("seed", &seed)
    map.field("views", &views)
    map.optional("workers", &workers, none: "auto")
    map.field("prefetch", &prefetch)
    map.field("wrap", &wrap)
    map.field("captions", &captions)
    map.field("verify", &verify)
    map.optional("stage", &stage, none: "none")
  }

  var mistakes: [Mistake] {
    var found: [Mistake] = []
    found.require(!datasets.isEmpty, "data.datasets", "expected at least one dataset, found an empty list")
    for (index, dataset) in datasets.enumerated() {
      found.expectText("a path", "data.datasets.\(index).path", dataset.path)
      found.expect("more than 0", "data.datasets.\(index).weight", dataset.weight) { $0 > 0 }
      found.expect("at least 1", "data.datasets.\(index).samples", dataset.samples) { $0 >= 1 }
    }
    found.expect("0 (never repeat) or more", "data.views", views) { $0 >= 0 }
    found.expect("at most 1048576", "data.views", views) { $0 <= 1 << 20 }
    found.expect("1 to 1024, or auto", "data.workers", workers) { 1...1024 ~= $0 }
    found.expect("1 to 64 batches", "data.prefetch", prefetch) { 1...64 ~= $0 }
    found.expectText("a folder, or none", "data.stage", stage)
    return found
  }
}

/// One dataset of the mix. The short form `PATH` has weight 1.
struct DatasetConfig: Section {
  /// The dataset's index file or folder; a relative path starts at the working folder.
  var path = ""
  /// How often its samples are shown, relative to those of a dataset of weight 1.
  var weight = 1.0
  /// The number of images, for dry runs on a machine without the dataset; training counts them itself.
  var samples: Int?

  mutating func fields(_ map: FieldMap) {
    map.required("path", &path, "the dataset's index file or folder")
    map.field("weight", &weight)
    map.optional("samples", &samples)
  }

  static var expectation: String { "a path, or a section (path, weight, samples)" }
  static func shorthandKey(_ text: String) -> String? { "path" }
}
