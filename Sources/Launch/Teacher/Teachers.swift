import Dist
import Foundation
import Model
import Tensor

/// Where the embeddings of all teachers of a run come from: the first one's, which every term looks at, and those of
/// further ones, whose softmaxes are averaged with its.
struct Teachers {
  let first: any TeacherSource
  let further: FurtherTeachers

  var scale: Float { first.scale }

  /// Puts the embeddings of a batch, this rank's rows of the global one, where the objective looks for them.
  func embed(_ batch: TrainingBatch, _ rows: Range<Int>, of count: Int, into objective: Objective<Float>) throws {
    for (index, source) in ([first] + further.caches).enumerated() {
      let place = objective.teacherRows(rows, of: count, teacher: index)
      try source.embed(batch, image: place.image, text: place.text)
    }
  }
}

/// A run's teachers beside the first, each with a cache.
struct FurtherTeachers {
  let models: [TeacherModel]
  let caches: [CachedTeacher]

  /// Opens their caches. Every rank must call it.
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

  /// What the objective must know of them.
  var shapes: [(width: Int, scale: Float)] { caches.map { ($0.width, $0.scale) } }

  /// For the checkpoints of the run.
  func saved(with first: TeacherModel?) -> SavedTeacher? {
    guard var saved = first?.saved else { return nil }
    if !models.isEmpty { saved.ensemble = models.map(\.saved) }
    return saved
  }

  /// Who says what, for the run's header; nil where there is one teacher only.
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
