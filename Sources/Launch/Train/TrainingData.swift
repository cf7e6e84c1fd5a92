import Dist
import Model
import Synchronization
import Tensor

/// This rank's rows of one global batch: pictures and captions, prepared by several threads and used again and again.
final class TrainingBatch: @unchecked Sendable {
  /// [b, 3, size, size]; each row is written by one thread.
  let images: Tensor<Float>
  private let tokens: Mutex<[[Int32]]>

  init(rows: Int, size: Int) {
    images = Tensor(Shape(rows, 3, size, size))
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

/// A picture that cannot be prepared: it stops the run, so that a global batch always has N pairs.
struct SampleError: ExitCoded, CustomStringConvertible {
  let corpus: String
  let key: String
  let reason: any Error

  var exitCode: Int32 { 65 }
  var description: String {
    "the picture \"\(key)\" of the corpus \(corpus) cannot be prepared: \(reason); "
      + "check the corpus with kinship corpus verify, or import it again without this picture"
  }
}

/// The corpora of a run, and how a sample of theirs becomes a row of a batch.
final class TrainingData: Sendable {
  let corpora: [Corpus]
  let sampler: Sampler
  private let data: DataConfig
  private let options: ImageOptions
  private let tokenizer: BytePairTokenizer

  /// Opens the corpora; `check` is what this rank verifies of them.
  init(_ run: RunConfig, imageSize: Int, tokenizer: BytePairTokenizer, check: Corpus.Check) throws {
    data = run.data
    options = run.image.options(size: imageSize)
    try options.validate()
    self.tokenizer = tokenizer
    corpora = try run.data.corpora.map { try Corpus.open($0.path, check: check) }
    for corpus in corpora {
      for sample in 0..<corpus.count where corpus.captionCount(sample) == 0 {
        throw CorpusError(
          corpus.folder, "the sample \"\(corpus.key(sample))\" has no caption; training needs one for each picture")
      }
    }
    sampler = try Sampler(
      corpora: zip(corpora, run.data.corpora).map { ($0.count, $1.weight) }, batch: run.batch.global, seed: run.seed,
      wrap: run.data.wrap)
  }

  /// Prepares this rank's rows of the given steps ahead of their use.
  func loader(
    steps: Range<Int>, rows: Range<Int>, workers: Int
  ) -> Prefetcher<Sampler.Draw, TrainingBatch> {
    let batches = (0..<data.prefetch + 1).map { _ in TrainingBatch(rows: rows.count, size: options.size) }
    return Prefetcher(
      steps: steps, batches: batches, workers: workers,
      plan: { [sampler] in sampler.draws(at: $0, rows: rows) },
      worker: { [self] in
        let preparation = try ImagePreparation(options, seed: data.seed)
        var bytes: [UInt8] = []
        return { [self] batch, row, draw in
          try prepare(draw, row, of: batch, with: preparation, reading: &bytes)
        }
      })
  }

  private func prepare(
    _ draw: Sampler.Draw, _ row: Int, of batch: TrainingBatch, with preparation: ImagePreparation,
    reading bytes: inout [UInt8]
  ) throws {
    let corpus = corpora[draw.corpus]
    let id = corpus.sampleID(draw.sample)
    let view = data.views == 0 ? draw.pass : draw.pass % data.views
    try corpus.readImage(draw.sample, into: &bytes)
    do {
      try preparation.prepareTraining(bytes, sampleID: id, view: view, into: batch.image(row))
    } catch {
      throw SampleError(corpus: corpus.name, key: corpus.key(draw.sample), reason: error)
    }
    batch.setCaption(row, tokenizer.encode(corpus.caption(draw.sample, choice(of: draw, id: id, view: view))))
  }

  /// Which caption is shown: a function of (data.seed, sample, view).
  private func choice(of draw: Sampler.Draw, id: UInt64, view: Int) -> Int {
    let count = corpora[draw.corpus].captionCount(draw.sample)
    guard data.captions == .random, count > 1 else { return 0 }
    var random = KeyedRandom(seed: data.seed, purpose: "caption", id, UInt64(view))
    return random.below(count)
  }
}

extension ImageConfig {
  /// The same in the words of Model, for pictures of n × n.
  func options(size: Int) -> ImageOptions {
    var options = ImageOptions()
    options.size = size
    options.mean = mean.map { Float($0) }
    options.std = std.map { Float($0) }
    options.alpha = alpha == .white ? .white : .drop
    options.exif = exif == .apply ? .apply : .ignore
    options.scale = scale[0]...scale[1]
    options.ratio = ratio[0]...ratio[1]
    options.colorJitter.brightness = colorJitter.brightness
    options.colorJitter.contrast = colorJitter.contrast
    options.colorJitter.saturation = colorJitter.saturation
    options.colorJitter.hue = colorJitter.hue
    options.colorJitter.probability = colorJitter.probability
    options.grayscale = grayscale
    options.maxPixels = maxPixels
    return options
  }
}
