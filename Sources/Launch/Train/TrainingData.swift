import Dist
import Model
import Tensor

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
  private let isFixed: Bool
  private let student: InputOptions
  private let teacher: InputOptions?

  /// Opens the corpora. The teacher is shown the same crops and captions.
  init(
    _ run: RunConfig, imageSize: Int, tokenizer: BytePairTokenizer, teacher: InputOptions? = nil
  ) throws {
    data = run.data
    isFixed = run.image.isFixed
    student = InputOptions(image: run.image.options(size: imageSize), tokenizer: tokenizer)
    self.teacher = teacher
    try student.image.validate()
    corpora = try run.data.corpora.map { try Corpus.open($0.path) }
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

  /// How one thread prepares a picture of a sample and view.
  private typealias Preparation = (
    _ bytes: [UInt8], _ sampleID: UInt64, _ view: Int, _ row: Int, _ batch: TrainingBatch
  ) throws -> Void

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
    let corpus = corpora[draw.corpus]
    let id = corpus.sampleID(draw.sample)
    let view = data.views == 0 ? draw.pass : draw.pass % data.views
    let shown = BatchRow(
      corpus: draw.corpus, sample: draw.sample, view: isFixed ? 0 : view,
      caption: corpus.firstCaption(draw.sample) + choice(of: draw, id: id, view: view))
    batch.setRow(row, shown)
    try corpus.readImage(draw.sample, into: &bytes)
    do {
      try prepare(bytes, id, shown.view, row, batch)
    } catch {
      throw SampleError(corpus: corpus.name, key: corpus.key(draw.sample), reason: error)
    }
    let caption = corpus.caption(draw.sample, shown.caption - corpus.firstCaption(draw.sample))
    batch.student.setCaption(row, student.tokenizer.encode(caption))
    if let teacher { batch.teacher?.setCaption(row, teacher.tokenizer.encode(caption)) }
  }

  /// Captions as the first steps show them to the student, or to its teacher, about so many: whole global batches.
  func captions(about count: Int, teachers: Bool = false) -> CaptionSample {
    let tokenizer = (teachers ? teacher ?? student : student).tokenizer
    var captions: [[Int32]] = []
    var step = 0
    repeat {
      for draw in sampler.draws(at: step, rows: 0..<sampler.batch).prefix(count) {
        let corpus = corpora[draw.corpus]
        let view = data.views == 0 ? draw.pass : draw.pass % data.views
        let choice = choice(of: draw, id: corpus.sampleID(draw.sample), view: view)
        captions.append(tokenizer.encode(corpus.caption(draw.sample, choice)))
      }
      step += 1
    } while captions.count < count && step < 64
    return CaptionSample(captions)
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
    options.crop = crop == .center ? .center : .random
    options.scale = scale[0]...scale[1]
    options.ratio = ratio[0]...ratio[1]
    options.colorJitter.brightness = colorJitter.brightness
    options.colorJitter.contrast = colorJitter.contrast
    options.colorJitter.saturation = colorJitter.saturation
    options.colorJitter.hue = colorJitter.hue
    options.colorJitter.probability = colorJitter.probability
    options.grayscale = grayscale
    options.scaledDCT = scaledDCT
    options.maxPixels = maxPixels
    return options
  }
}
