import Tensor

/// Where the teacher's embeddings of a batch come from.
protocol TeacherSource {
  /// d, the numbers of an embedding.
  var width: Int { get }
  /// β = e^logit_scale, by which the teacher's similarities are multiplied.
  var scale: Float { get }

  /// Takes all memory at once that it needs for such captions, `rows` at a time.
  func reserve(_ captions: CaptionSample, rows: Int)

  /// Writes the unit rows [b, d] of the batch's images and captions, whose order they have.
  func embed(_ batch: TrainingBatch, image: Tensor<Float>, text: Tensor<Float>) throws
}

extension TeacherSource {
  /// What does not look at captions needs nothing.
  func reserve(_ captions: CaptionSample, rows: Int) {}
}
