import Dist
import Model
import Synchronization
import Tensor

extension Dataset {
  /// The error of an image that cannot be prepared. It ends the run, so that every global batch is complete.
  func cannotPrepare(_ sample: Int, _ reason: any Error) -> UserError {
    UserError(
      "the image \"\(key(sample))\" of the dataset \(name) cannot be prepared: \(reason); "
        + "check the dataset with kinship dataset verify, or import it again without this image")
  }
}

/// The datasets of a run, and the preparation of their samples as rows of batches.
final class TrainingData: Sendable {
  let datasets: [Dataset]
  let sampler: Sampler
  /// The number of captions in which each image is shown. If all captions are, it is the largest number that an image
  /// has; those of an image with fewer are shown again in turn.
  let captionsPerImage: Int
  private let data: DataConfig
  private let seed: UInt64
  private let isFixed: Bool
  private let vision: VisionConfig
  private let student: InputOptions
  private let teacher: InputOptions?

  /// Opens the datasets, of which each image needs a caption. The teacher sees the same crops and captions. If there
  /// are `ranks`, all must call it.
  init(
    _ run: RunConfig, _ vision: VisionConfig, tokenizer: BytePairTokenizer, teacher: InputOptions? = nil,
    over ranks: Communicator? = nil
  ) throws {
    (data, seed, self.vision) = (run.data, run.seed, vision)
    isFixed = run.image.isFixed
    student = InputOptions(image: run.image.sized(vision.imageSize), tokenizer: tokenizer)
    self.teacher = teacher
    try student.image.validate()
    datasets = try run.data.datasets.map { try Dataset.open($0.path, over: ranks) }
    var most = 1
    for dataset in datasets {
      for sample in 0..<dataset.count {
        let count = dataset.captionCount(sample)
        guard count > 0 else {
          throw DatasetError(
            dataset.folder, "the sample \"\(dataset.key(sample))\" has no caption; training needs one for each image")
        }
        most = max(most, count)
      }
    }
    captionsPerImage = run.data.captions == .all ? most : 1
    sampler = try Sampler(
      datasets: zip(datasets, run.data.datasets).map { ($0.count, $1.weight) }, batch: run.batch.global, seed: run.seed,
      wrap: run.data.wrap)
  }

  private init(_ other: TrainingData, _ datasets: [Dataset]) {
    (data, seed, isFixed, vision) = (other.data, other.seed, other.isFixed, other.vision)
    (student, teacher, captionsPerImage) = (other.student, other.teacher, other.captionsPerImage)
    (self.datasets, sampler) = (datasets, other.sampler)
  }

  /// Returns the same data, whose images are read from copies of the datasets in other folders.
  func reading(from folders: [String]) -> TrainingData {
    TrainingData(self, zip(datasets, folders).map { $0.reading(from: $1) })
  }

  /// Returns a prefetcher that prepares the local batches of the given steps: these `rows` of each global batch.
  /// `crops` are the caches, one for each dataset, that have the boxes of the crops, if these are not drawn.
  func loader(
    steps: Range<Int>, rows: Range<Int>, workers: Int, crops: [TeacherCache]? = nil
  ) -> Prefetcher<Sampler.Draw, TrainingBatch> {
    Prefetcher(
      steps: steps,
      batches: (0..<data.prefetch + 1).map { _ in
        TrainingBatch(
          rows: rows.count, captionsPerImage: captionsPerImage, student: student, teacher: teacher,
          keptTokens: vision.patchDropout > 0 ? vision.trainedTokens : 0)
      },
      workers: workers, append: { [sampler] in sampler.appendDraws(at: $0, rows: rows, to: &$1) },
      worker: { [self] in
        let prepare = try preparation()
        var bytes: [UInt8] = []
        return { [self] batch, row, draw in
          let region = try crops?[draw.dataset].region(sample: draw.sample, view: content(of: draw).view)
          try fill(row, of: batch, with: draw, region, prepare, reading: &bytes)
        }
      })
  }

  private typealias Preparation = (
    _ bytes: [UInt8], _ sampleID: UInt64, _ view: Int, CropRegion?, _ row: Int, _ batch: TrainingBatch
  ) throws -> Void

  /// Returns the preparation for student and teacher; images that both see alike are prepared once.
  private func preparation() throws -> Preparation {
    guard let teacher, teacher.image != student.image else {
      let single = try ImagePreparation(student.image, seed: data.seed)
      return { try single.prepareTraining($0, sampleID: $1, view: $2, region: $3, into: $5.student.image($4)) }
    }
    let paired = try PairedPreparation(student.image, and: teacher.image, seed: data.seed)
    return { bytes, id, view, _, row, batch in
      guard let input = batch.teacher else { preconditionFailure("a batch without room for the teacher") }
      try paired.prepareTraining(bytes, sampleID: id, view: view, into: batch.student.image(row), and: input.image(row))
    }
  }

  private func fill(
    _ row: Int, of batch: TrainingBatch, with draw: Sampler.Draw, _ region: CropRegion?, _ prepare: Preparation,
    reading bytes: inout [UInt8]
  ) throws {
    let (dataset, shown) = (datasets[draw.dataset], content(of: draw))
    let id = dataset.sampleID(draw.sample)
    batch.setRow(row, shown)
    try dataset.readImage(draw.sample, into: &bytes)
    do { try prepare(bytes, id, shown.view, region, row, batch) } catch {
      throw dataset.cannotPrepare(draw.sample, error)
    }
    if vision.patchDropout > 0 {
      // Not by view: a teacher's embeddings do not depend on these patches, so each pass can have others.
      let random = KeyedRandom(seed: seed, purpose: "patches", id, second: UInt64(draw.pass))
      batch.setKept(row, vision.keptTokens(random))
    }
    for place in 0..<captionsPerImage {
      let (caption, index) = (caption(of: shown, place), row * captionsPerImage + place)
      batch.student.setCaption(index, student.tokenizer.encode(caption))
      if let teacher { batch.teacher?.setCaption(index, teacher.tokenizer.encode(caption)) }
    }
  }

  /// Returns about `count` captions of the first steps, in the tokens of the student or of its teacher.
  func captions(about count: Int, teachers: Bool = false) -> CaptionSample {
    let tokenizer = (teachers ? teacher ?? student : student).tokenizer
    var captions: [[Int32]] = []
    var step = 0
    repeat {
      captions += sampler.draws(at: step, rows: 0..<sampler.batch).prefix(count).flatMap { draw -> [[Int32]] in
        let shown = content(of: draw)
        return (0..<captionsPerImage).map { tokenizer.encode(caption(of: shown, $0)) }
      }
      step += 1
    } while captions.count < count && step < 64
    return CaptionSample(captions, perImage: captionsPerImage)
  }

  /// Returns what a row shows. The caption is a function of (data.seed, sample, view).
  private func content(of draw: Sampler.Draw) -> BatchRow {
    let (dataset, view) = (datasets[draw.dataset], data.views == 0 ? draw.pass : draw.pass % data.views)
    let count = dataset.captionCount(draw.sample)
    var caption = dataset.firstCaption(draw.sample)
    if data.captions == .random, count > 1 {
      var random = KeyedRandom(seed: data.seed, purpose: "caption", dataset.sampleID(draw.sample), second: UInt64(view))
      caption += random.below(count)
    }
    return BatchRow(
      dataset: draw.dataset, sample: draw.sample, view: isFixed ? 0 : view, caption: caption, captionCount: count)
  }

  private func caption(of row: BatchRow, _ place: Int) -> String {
    let dataset = datasets[row.dataset]
    return dataset.caption(row.sample, choice: row.caption(place) - dataset.firstCaption(row.sample))
  }

  /// The header's line about several captions of an image; nil if one is shown.
  var captionsNote: String? {
    guard captionsPerImage > 1 else { return nil }
    return "captions: the loss is the sum over \(captionsPerImage) captions of each image; an image with fewer shows "
      + "some of them again"
  }
}

struct InputOptions: Sendable {
  let image: ImageOptions
  let tokenizer: BytePairTokenizer
}

/// This rank's rows of one global batch, prepared by several threads in memory that is used again.
final class TrainingBatch: Sendable {
  let student: ModelInput
  let teacher: ModelInput?
  /// The captions of each image, which stand one after another in `student` and `teacher`.
  let captionsPerImage: Int
  private let shown: Mutex<[BatchRow]>
  private let tokens: Mutex<[Int]>
  private let keptTokens: Int

  /// - Parameter keptTokens: the number of each image's tokens that patch dropout keeps; 0: there is none.
  init(rows: Int, captionsPerImage: Int, student: InputOptions, teacher: InputOptions?, keptTokens: Int) {
    let captions = rows * captionsPerImage
    let input = ModelInput(rows: rows, captions: captions, size: student.image.size)
    self.student = input
    self.captionsPerImage = captionsPerImage
    shown = Mutex(Array(repeating: BatchRow(dataset: 0, sample: 0, view: 0, caption: 0, captionCount: 1), count: rows))
    tokens = Mutex(Array(repeating: 0, count: rows * keptTokens))
    self.keptTokens = keptTokens
    self.teacher = teacher.map {
      ModelInput(
        rows: rows, captions: captions, size: $0.image.size, images: $0.image == student.image ? input.images : nil)
    }
  }

  var rows: [BatchRow] { shown.withLock { $0 } }
  func setRow(_ row: Int, _ shown: BatchRow) { self.shown.withLock { $0[row] = shown } }

  /// The tokens of each image that the student computes, as `VisionTower.forward` takes them; nil: all.
  var kept: [Int]? {
    guard keptTokens > 0 else { return nil }
    return tokens.withLock { $0 }
  }
  func setKept(_ row: Int, _ kept: [Int]) {
    tokens.withLock { $0.replaceSubrange(row * keptTokens..<(row + 1) * keptTokens, with: kept) }
  }
}

/// The content of a row of a batch: everything on which its embeddings depend.
struct BatchRow: Hashable {
  let dataset: Int
  let sample: Int
  /// The index of the image's crop.
  let view: Int
  /// The index of the caption among all captions of the dataset; of the first one if all are shown.
  let caption: Int
  /// The number of the image's captions.
  let captionCount: Int

  /// Returns the index of the caption that is shown as number `place`.
  func caption(_ place: Int) -> Int { caption + place % captionCount }
}

/// Images of `size` pixels a side and captions in the form that one model takes, in memory that is used again.
final class ModelInput: Sendable {
  /// [b, 3, size, size]; each row is written by one thread.
  let images: Tensor<Float>
  private let tokens: Mutex<[[Int32]]>

  init(rows: Int, captions: Int? = nil, size: Int, images: Tensor<Float>? = nil) {
    self.images = images ?? Tensor(Shape(rows, 3, size, size))
    tokens = Mutex(Array(repeating: [], count: captions ?? rows))
  }

  var captions: [[Int32]] { tokens.withLock { $0 } }
  func image(_ row: Int) -> Tensor<Float> { images.sample(row) }
  func setCaption(_ index: Int, _ ids: [Int32]) { tokens.withLock { $0[index] = ids } }
}
