import Dist
import Foundation
import Model
import Tensor

/// The teachers of a run beside the first (`teacher.ensemble`), whose embeddings come from caches. Terms that follow
/// softmaxes follow the mean of all teachers'; all other terms use the first teacher alone.
struct Ensemble {
  private let models: [TeacherModel]
  private let caches: [CachedTeacher]

  /// Opens the caches, as `CachedTeacher` does. Every rank must call it.
  init(_ run: RunConfig, _ datasets: [Dataset], checking: Bool, over ranks: Communicator) throws {
    let members = try run.ofFurtherTeachers.compactMap { run in
      try TeacherModel(run, over: ranks).map { (run: run, model: $0) }
    }
    for (_, model) in members { try ranks.requireSame("teacher \(model.path)", model.identity) }
    models = members.map(\.model)
    caches = try members.compactMap {
      try CachedTeacher($0.model, $0.run, datasets, checking: checking, over: ranks)
    }
  }

  /// The width of each teacher's embeddings, and the scale of its similarities.
  var shapes: [(width: Int, scale: Float)] { caches.map { ($0.width, $0.scale) } }

  /// Writes the embeddings of a batch by `first` and by all teachers of the ensemble into the objective. The batch has
  /// this rank's `rows` of a global batch of `count` pairs.
  func embed(
    _ batch: TrainingBatch, first: any TeacherSource, _ rows: Range<Int>, of count: Int,
    into objective: Objective<Float>
  ) throws {
    for (index, teacher) in ([first] + caches).enumerated() {
      let target = objective.teacherRows(rows, of: count, teacher: index)
      try teacher.embed(batch, image: target.image, text: target.text)
    }
  }

  /// Returns the first teacher with the ensemble, as the run's checkpoints store them; nil without a teacher.
  func saved(with first: TeacherModel?) -> SavedTeacher? {
    guard var saved = first?.saved else { return nil }
    if !models.isEmpty { saved.ensemble = models.map(\.saved) }
    return saved
  }

  /// Returns the line of the run's header that lists the teachers and the terms that use them; nil if there is no
  /// ensemble.
  func text(_ first: TeacherModel?, _ options: ObjectiveOptions) -> String? {
    guard let first, !models.isEmpty else { return nil }
    let soft = options.keys(needing: .teacherSoftmaxes).joined(separator: ", ")
    let single = options.keys(needing: .teacherEmbeddings).joined(separator: ", ")
    return
      "ensemble: \(soft) \(soft.contains(",") ? "follow" : "follows") the mean softmax "
      + "of \(models.count + 1) teachers: "
      + ([first] + models).map { "\($0.path) from \($0.cache ?? "")" }.joined(separator: ", ")
      + (single.isEmpty ? "" : "; \(single) \(single.contains(",") ? "look" : "looks") at the first alone")
  }
}
