import Dist
import Foundation
import Model
import Tensor

/// What a run is and what it runs on, said once before the first step.
struct RunHeader {
  let run: RunConfig
  let config: CLIPConfig
  /// The model's parameters and the objective's own.
  let parameters: ParameterStore<Float>
  let teacher: TeacherModel?
  let data: TrainingData
  let steps: Int
  let plan: ThreadPlan
  let ranks: Communicator
  /// What else there is to say.
  var notes: [String] = []

  /// Every rank must call it; rank 0 writes.
  func say() throws {
    let warnings = try ranks.allGather([UInt8](JSONEncoder().encode(plan.warnings))).map {
      try JSONDecoder().decode([String].self, from: Data($0))
    }
    guard ranks.rank == 0 else { return }
    var lines = [
      "kinship \(Release.version)  run \(run.name)  \(ranks.size) \(ranks.size == 1 ? "rank" : "ranks"), "
        + "\(plan.compute) compute and \(run.data.workers ?? plan.loaders) loader threads each, "
        + "\(Machine.processorName), BLAS kernel \(BLAS.kernel)",
      "model  \(modelText)",
      "data   \(dataText)",
      "steps  \(steps) of \(run.batch.global) pairs (\(pairsText) a rank), \(data.sampler.stepsPerEpoch) an epoch",
      "memory \(memoryText)",
    ]
    if let teacher { lines.insert("teacher \(teacherText(teacher))", at: 2) }
    lines += notes
    lines += run.warnings(totalSteps: steps).map { "warning: \($0)" }
    for warning in Set(warnings.joined()).sorted() { lines.append("warning: \(warning)") }
    FileHandle.standardOutput.write(Data((lines.joined(separator: "\n") + "\n").utf8))
  }

  private var modelText: String {
    let own = parameters.entries.filter { $0.name.hasPrefix(Objective<Float>.prefix) }.reduce(0) { $0 + $1.shape.count }
    let statistics = run.model.syncBatchNorm ? "all ranks" : "each rank"
    return sizesText(config, parameters.parameterCount - own)
      + (config.vision.stages == nil ? "" : "; batch norm over \(statistics)")
      + (own == 0 ? "" : "; and \(own) parameters of the objective's own")
  }

  private func teacherText(_ teacher: TeacherModel) -> String {
    let layout = CLIP<Float>.layout(teacher.config)
    return sizesText(teacher.config, layout.parameterCount)
      + "; from \(teacher.path), \(teacher.sha256.map { "SHA-256 \($0)" } ?? "which is not there")"
      + "; words of \(teacher.vocabulary); \(mebibytes(Double(layout.count) * 4)) on each rank, "
      + "\(teacher.micro.map { "\($0)" } ?? "all") pairs at a time"
  }

  private func sizesText(_ config: CLIPConfig, _ count: Int) -> String {
    let t = config.text
    return
      "\(Figures.significant(Double(count) / 1e6, 4)) M parameters; \(visionText(config.vision)); text \(t.width) wide, "
      + "\(t.layers) layers, "
      + "\(t.vocabularySize) tokens, context \(t.contextLength); embedding \(config.embedding)"
  }

  private func visionText(_ v: VisionConfig) -> String {
    if let stages = v.stages {
      let blocks = stages.map(String.init).joined(separator: ", ")
      return "ResNet of \(blocks) blocks, \(v.width) wide, \(v.imageSize) px"
    }
    return "vision \(v.width) wide, \(v.layers) layers, \(v.imageSize) px in patches of \(v.patchSize)"
  }

  private var dataText: String {
    zip(data.corpora, run.data.corpora).map { corpus, config in
      "\(corpus.name) \(corpus.count) pictures\(config.weight == 1 ? "" : " × \(config.weight)")"
    }.joined(separator: ", ") + "; \(data.sampler.samplesPerEpoch) samples an epoch"
  }

  private var pairsText: String {
    let counts = Set(ranks.slices(of: run.batch.global).map(\.count)).sorted()
    return counts.map(String.init).joined(separator: " or ")
  }

  /// The large parts only: weights, gradients, this rank's moments and gradient slice, and what blocks keep for backward.
  private var memoryText: String {
    let arena = Double(parameters.count) * 4
    let share = ranks.size == 1 ? 2 : 3 / Double(ranks.size)
    let rows = Double(min(ranks.slices(of: run.batch.global).map(\.count).max() ?? 0, run.batch.micro ?? .max))
    let image = Double(config.vision.keptNumbers) * 4 * rows
    let t = config.text
    let text = Double(t.contextLength * t.layers * (8 * t.width + 2 * t.hidden)) * 4 * rows
    return "about \(mebibytes(arena * (2 + share))) a rank for parameters, gradients and moments; "
      + "\(mebibytes(image)) for pictures' activations and at most \(mebibytes(text)) for captions'"
  }

  private func mebibytes(_ bytes: Double) -> String { "\(Int((bytes / 1_048_576).rounded(.up))) MiB" }
}
