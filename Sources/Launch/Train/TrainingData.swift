import Dist
import Model
import Synchronization
import Tensor

/// An image that cannot be prepared. It ends the run, so that every global batch is complete.
struct SampleError: ExitCoded, CustomStringConvertible {
  let dataset: String
  let key: String
  let reason: any Error

  var status: ExitStatus { .badData }
  var description: String {
    "the image \"\(key)\" of the dataset \(dataset) cannot be prepared: \(reason); "
      + "check the dataset with kinship dataset verify, or import it again without this image"
  }
}

/// The datasets of a run, and the preparation of their samples as rows of batches.
final class TrainingData: Sendable {
  let datasets: [Dataset]
  let sampler: Sampler
  private let data: DataConfig
  private let isFixed: Bool
  private let student: InputOptions
  private let teacher: InputOptions?

  /// Opens the datasets for images of `imageSize` × `imageSize` pixels. The teacher sees the same crops and captions.
  ///
  /// - Throws: a `DatasetError` for a dataset that cannot be opened, or has an image without captions; an
  ///   `ImageError` for an option out of its range.
  init(
    _ run: RunConfig, imageSize: Int, tokenizer: BytePairTokenizer, teacher: InputOptions? = nil
  ) throws {
    data = run.data
    isFixed = run.image.isFixed
    student = InputOptions(image: run.image.sized(imageSize), tokenizer: tokenizer)
    self.teacher = teacher
    try student.image.validate()
    datasets = try run.data.datasets.map { try Dataset.open($0.path) }
    for dataset in datasets {
      for sample in 0..<dataset.count where dataset.captionCount(sample) == 0 {
        throw DatasetError(
          dataset.folder, "the sample \"\(dataset.key(sample))\" has no caption; training needs one for each image")
      }
    }
    sampler = try Sampler(
      datasets: zip(datasets, run.data.datasets).map { ($0.count, $1.weight) }, batch: run.batch.global, seed: run.seed,
      wrap: run.data.wrap)
  }

  /// Returns a prefetcher that prepares the local batches of the given steps: these `rows` of each global batch.
  func loader(
    steps: Range<Int>, rows: Range<Int>, workers: Int
  ) -> Prefetcher<Sampler.Draw, TrainingBatch> {
    let batches = (0..<data.prefetch + 1).map { _ in
      TrainingBatch(rows: rows.count, student: student, teacher: teacher)
    }
    return Prefetcher(
      steps: steps, batches: batches, workers: workers,
      append: { [sampler] in sampler.appendDraws(at: $0, rows: rows, to: &$1) },
      worker: { [self] in
        let prepare = try preparation()
        var bytes: [UInt8] = []
        return { [self] batch, row, draw in
          try fill(row, of: batch, with: draw, prepare, reading: &bytes)
        }
      })
  }

  /// Prepares the image of a sample and view on one thread.
  private typealias Preparation = (
    _ bytes: [UInt8], _ sampleID: UInt64, _ view: Int, _ row: Int, _ batch: TrainingBatch
  ) throws -> Void

  /// Returns the preparation for student and teacher; images that both see alike are prepared once.
  private func preparation() throws -> Preparation {
    guard let teacher, teacher.image != student.image else {
      let single = try ImagePreparation(student.image, seed: data.seed)
      return { try single.prepareTraining($0, sampleID: $1, view: $2, into: $4.student.image($3)) }
    }
    let paired = try PairedPreparation(student.image, and: teacher.image, seed: data.seed)
    return { bytes, id, view, row, batch in
      guard let input = batch.teacher else { preconditionFailure("a batch without room for the teacher") }
      try paired.prepareTraining(
        bytes, sampleID: id, view: view, into: batch.student.image(row), and: input.image(row))
    }
  }

  private func fill(
    _ row: Int, of batch: TrainingBatch, with draw: Sampler.Draw, _ prepare: Preparation, reading bytes: inout [UInt8]
  ) throws {
    let dataset = datasets[draw.dataset]
    let id = dataset.sampleID(draw.sample)
    let view = data.views == 0 ? draw.pass : draw.pass % data.views
    let shown = BatchRow(
      dataset: draw.dataset, sample: draw.sample, view: isFixed ? 0 : view,
      caption: dataset.firstCaption(draw.sample) + choice(of: draw, id: id, view: view))
    batch.setRow(row, shown)
    try dataset.readImage(draw.sample, into: &bytes)
    do {
      try prepare(bytes, id, shown.view, row, batch)
    } catch {
      throw SampleError(dataset: dataset.name, key: dataset.key(draw.sample), reason: error)
    }
    let caption = dataset.caption(draw.sample, choice: shown.caption - dataset.firstCaption(draw.sample))
    batch.student.setCaption(row, student.tokenizer.encode(caption))
    if let teacher { batch.teacher?.setCaption(row, teacher.tokenizer.encode(caption)) }
  }

  /// Returns about `count` captions of the first steps, in the tokens of the student or of its teacher.
  func captions(about count: Int, teachers: Bool = false) -> CaptionSample {
    let tokenizer = (teachers ? teacher ?? student : student).tokenizer
    var captions: [[Int32]] = []
    var step = 0
    repeat {
      for draw in sampler.draws(at: step, rows: 0..<sampler.batch).prefix(count) {
        let dataset = datasets[draw.dataset]
        let view = data.views == 0 ? draw.pass : draw.pass % data.views
        let choice = choice(of: draw, id: dataset.sampleID(draw.sample), view: view)
        captions.append(tokenizer.encode(dataset.caption(draw.sample, choice: choice)))
      }
      step += 1
    } while captions.count < count && step < 64
    return CaptionSample(captions)
  }

  /// Returns the index of the caption that is shown, which is a function of (data.seed, sample, view).
  private func choice(of draw: Sampler.Draw, id: UInt64, view: Int) -> Int {
    let count = datasets[draw.dataset].captionCount(draw.sample)
    guard data.captions == .random, count > 1 else { return 0 }
    var random = KeyedRandom(seed: data.seed, purpose: "caption", id, second: UInt64(view))
    return random.below(count)
  }
}

/// The preparation of images and captions for one model.
struct InputOptions: Sendable {
  let image: ImageOptions
  let tokenizer: BytePairTokenizer
}

/// This rank's rows of one global batch, as student and teacher see them. Several threads prepare the rows, and the
/// memory is used again for later batches.
final class TrainingBatch: Sendable {
  let student: ModelInput
  /// Nil if no teacher computes embeddings during training.
  let teacher: ModelInput?
  private let shown: Mutex<[BatchRow]>

  init(rows: Int, student: InputOptions, teacher: InputOptions?) {
    let input = ModelInput(rows: rows, images: Tensor(Shape(rows, 3, student.image.size, student.image.size)))
    self.student = input
    shown = Mutex(Array(repeating: BatchRow(dataset: 0, sample: 0, view: 0, caption: 0), count: rows))
    self.teacher = teacher.map { teacher in
      let size = teacher.image.size
      let isSame = teacher.image == student.image
      return ModelInput(rows: rows, images: isSame ? input.images : Tensor(Shape(rows, 3, size, size)))
    }
  }

  /// The content of each row.
  var rows: [BatchRow] { shown.withLock { $0 } }

  func setRow(_ row: Int, _ shown: BatchRow) { self.shown.withLock { $0[row] = shown } }
}

/// The content of a row of a batch: everything on which its embeddings depend.
struct BatchRow: Hashable {
  let dataset: Int
  let sample: Int
  /// The index of the image's crop.
  let view: Int
  /// The index of the caption among all captions of the dataset.
  let caption: Int
}

/// Images and captions in the form that one model takes.
final class ModelInput: Sendable {
  /// [b, 3, size, size]; each row is written by one thread.
  let images: Tensor<Float>
  private let tokens: Mutex<[[Int32]]>

  init(rows: Int, images: Tensor<Float>) {
    self.images = images
    tokens = Mutex(Array(repeating: [], count: rows))
  }

  var captions: [[Int32]] { tokens.withLock { $0 } }

  func image(_ row: Int) -> Tensor<Float> {
    let size = images.shape[2]
    let count = 3 * size * size
    return images.slice(row * count..<(row + 1) * count).reshaped(Shape(3, size, size))
  }

  func setCaption(_ row: Int, _ ids: [Int32]) { tokens.withLock { $0[row] = ids } }
}
