import Model
import Synchronization
import Tensor

/// How a model wants images and captions.
struct InputOptions: Sendable {
  let image: ImageOptions
  let tokenizer: BytePairTokenizer
}

/// This rank's rows of one global batch: what student and teacher are shown, prepared by several threads and used again
/// and again.
final class TrainingBatch: Sendable {
  let student: ModelInput
  /// Nil without a teacher that looks at them.
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

  /// What stands in each row.
  var rows: [BatchRow] { shown.withLock { $0 } }

  func setRow(_ row: Int, _ shown: BatchRow) { self.shown.withLock { $0[row] = shown } }
}

/// What a row of a batch shows: all that an embedding of it is a function of.
struct BatchRow: Hashable {
  let dataset: Int
  let sample: Int
  /// Which of the image's crops.
  let view: Int
  /// The caption's number among all of the dataset.
  let caption: Int
}

/// Images and captions, as one model wants them.
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
