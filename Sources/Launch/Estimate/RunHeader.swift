import Dist
import Foundation
import Model
import Tensor

/// Prints what a run is and what it runs on, before the first step.
struct RunHeader {
  let preview: RunPreview
  let ranks: Communicator

  init(_ preview: RunPreview, over ranks: Communicator) { (self.preview, self.ranks) = (preview, ranks) }

  /// A line of the header, which the log keeps too.
  typealias Fact = LogEvent.Header.Fact

  /// Prints the header on standard output. Rank 0 does so and returns the facts for the log; all other ranks return
  /// none. Every rank must call it.
  @discardableResult
  func print() throws -> [Fact] {
    let machine = try ranks.allGather(preview.plan.warnings)
    let hosts = try ranks.allGather(ranks.hostname)
    guard ranks.rank == 0 else { return [] }
    let estimate = shape.estimate(ranks: ranks.size, ofNode: ranks.nodeSize)
    var facts = [Fact(name: "model", text: modelText)]
    if let teacher = preview.teacher { facts.append(Fact(name: "teacher", text: text(of: teacher))) }
    facts += [
      Fact(name: "data", text: dataText),
      Fact(name: "steps", text: stepsText),
      Fact(name: "memory", text: Self.memoryText(estimate)),
      Fact(name: "wire", text: Self.messagesText(estimate)),
    ]
    if let text = preview.precisionText { facts.append(Fact(name: "precision", text: text)) }
    let notes = [run.freezeText(shape.frozen, shape.parameters)].compactMap { $0 } + preview.notes
    let warnings = run.warnings(totalSteps: preview.steps) + preview.warnings + Set(machine.joined()).sorted()
    let width = 7
    let lines =
      ["kinship \(Release.version)  run \(run.name)  \(ranksText), \(threadsText) each, \(processorText)"]
      + facts.map { $0.name.padding(toLength: max(width, $0.name.count + 1), withPad: " ", startingAt: 0) + $0.text }
      + notes + warnings.map { "warning: \($0)" }
    FileHandle.standardOutput.write(Data((lines.joined(separator: "\n") + "\n").utf8))
    let machineFacts = [
      Fact(name: "ranks", text: "\(ranks.size) on \(Self.hostsText(hosts))"),
      Fact(name: "threads", text: "\(threadsText) a rank"),
      Fact(name: "processor", text: processorText),
    ]
    return machineFacts + facts + notes.map { Fact(name: "note", text: $0) }
      + warnings.map { Fact(name: "warning", text: $0) }
  }

  private var shape: RunShape { preview.shape }
  private var run: RunConfig { shape.run }

  // MARK: Machine

  private var ranksText: String { Figures.count(ranks.size, "rank") }
  private var threadsText: String {
    "\(preview.plan.compute) compute and \(run.data.workers ?? preview.plan.loaders) loader threads"
  }
  private var processorText: String { "\(Machine.processorName), BLAS kernel \(BLAS.kernel)" }

  /// Returns the first hosts in the order of their ranks, with the number of ranks on each: `node-1 (4), node-2 (4)`.
  static func hostsText(_ hosts: [String]) -> String {
    var counts: [String: Int] = [:]
    for host in hosts { counts[host, default: 0] += 1 }
    var seen: Set<String> = []
    let names = hosts.filter { seen.insert($0).inserted }
    let shown = 16
    return names.prefix(shown).map { "\($0) (\(counts[$0] ?? 0))" }.joined(separator: ", ")
      + (names.count > shown ? " and \(names.count - shown) more hosts" : "")
  }

  // MARK: Models

  var modelText: String {
    let own = shape.parameters.entries.filter { $0.owner == .objective }.reduce(0) { $0 + $1.shape.count }
    let statistics = run.model.syncBatchNorm ? "all ranks" : "each rank"
    return sizesText(shape.config, shape.parameters.parameterCount - own)
      + (shape.config.vision.stages == nil ? "" : "; batch norm with the statistics of \(statistics)")
      + (own == 0 ? "" : "; and \(own) parameters of the objective's own")
  }

  private func text(of teacher: RunPreview.Teacher) -> String {
    let (config, microBatchSize) = (teacher.shape.config, teacher.shape.microBatchSize)
    return sizesText(config, CLIP<Float>.layout(config).parameterCount) + "; from \(teacher.path), \(teacher.weights)"
      + (teacher.cache.map { "; not loaded: its embeddings come from \($0)" }
        ?? "; words of \(teacher.vocabulary); \(microBatchSize.map { "\($0)" } ?? "all") pairs at a time")
  }

  private func sizesText(_ config: CLIPConfig, _ count: Int) -> String {
    let t = config.text
    return
      "\(Figures.significant(Double(count) / 1e6, 4)) M parameters; \(visionText(config.vision)); "
      + "text \(t.width) wide, \(t.layers) layers, "
      + "\(t.vocabularySize) tokens, context \(t.contextLength); embedding \(config.embedding)"
  }

  private func visionText(_ v: VisionConfig) -> String {
    if let stages = v.stages {
      let blocks = stages.map(String.init).joined(separator: ", ")
      return "ResNet of \(blocks) blocks, \(v.width) wide, \(v.imageSize) px"
    }
    return "vision \(v.width) wide, \(v.layers) layers, \(v.imageSize) px in patches of \(v.patchSize)"
  }

  // MARK: Data and steps

  private var dataText: String {
    zip(preview.datasets, run.data.datasets).map { dataset, config in
      "\(dataset.name) \(dataset.count) images\(config.weight == 1 ? "" : " × \(config.weight)")"
    }.joined(separator: ", ") + "; \(preview.sampler.samplesPerEpoch) samples an epoch"
  }

  private var stepsText: String {
    let counts = Set(ranks.slices(of: run.batch.global).map(\.count)).sorted()
    let pairs = counts.map(String.init).joined(separator: " or ")
    return "\(preview.steps) of \(run.batch.global) pairs (\(pairs) a rank), \(preview.sampler.stepsPerEpoch) an epoch"
      + (run.epochs.map { ", \($0) epochs" } ?? "")
  }

  // MARK: Estimates

  private static func memoryText(_ estimate: RunEstimate) -> String {
    "about \(Figures.bytes(estimate.memoryBytes)) a rank: \(list(estimate.memory))"
  }

  private static func messagesText(_ estimate: RunEstimate) -> String {
    let received = estimate.received
    return received.isEmpty
      ? "nothing: there are no other ranks"
      : "\(Figures.bytes(received.reduce(0) { $0 + $1.bytes })) a step: \(list(received))"
  }

  private static func list(_ parts: [RunEstimate.Part]) -> String {
    parts.map { "\($0.name) \(Figures.bytes($0.bytes))" }.joined(separator: ", ")
  }
}
