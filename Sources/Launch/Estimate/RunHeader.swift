import Dist
import Foundation
import Model
import Tensor

/// What a run is and what it runs on, said once before the first step.
struct RunHeader {
  var run: RunConfig
  let config: CLIPConfig
  /// The model's parameters and the objective's own.
  let parameters: ParameterStore<Float>
  let teacher: Teacher?
  /// Of each dataset its name and its images.
  let datasets: [(name: String, count: Int)]
  let sampler: Sampler
  let steps: Int
  let plan: ThreadPlan
  let ranks: Communicator
  /// What of the model stays as it is.
  var frozen = Frozen.none
  /// Widths of the embeddings of teachers beside the first.
  var ensemble: [Int] = []
  /// As the run will see them; nil where they are not there.
  var captions: CaptionSample?
  /// What the process holds beside the run's own; 0 where that is not of interest.
  var program = 0
  /// What else there is to say.
  var notes: [String] = []
  /// What the user should look at, beside what the run file itself shows.
  var warnings: [String] = []
  /// Which precision `precision: auto` takes and why; empty where the run file names one.
  var precision: [String] = []

  /// What is said of a teacher.
  struct Teacher {
    let config: CLIPConfig
    let path: String
    /// What is known of its weights.
    let weights: String
    let vocabulary: String
    let microBatchSize: Int?
    /// The cache from which its embeddings come; nil where it computes them.
    var cache: String?
  }

  /// Those of the model's products and of a teacher's that is computed.
  var precisions: [ComputePrecision] {
    [run.precision.used] + (teacher?.cache == nil ? [run.teacher?.precision.used ?? .fp32] : [])
  }

  /// One line of the header, which is logged too.
  typealias Fact = LogEvent.Header.Fact

  /// Says the header on standard output, and returns what it says for the log. Every rank must call it; rank 0 writes.
  @discardableResult
  func print() throws -> [Fact] {
    let machine = try ranks.allGather(plan.warnings)
    let hosts = try ranks.allGather(ranks.hostname)
    guard ranks.rank == 0 else { return [] }
    var facts = [
      Fact(name: "model", text: modelText),
      Fact(name: "data", text: dataText),
      Fact(
        name: "steps",
        text:
          "\(steps) of \(run.batch.global) pairs (\(pairsText) a rank), \(sampler.stepsPerEpoch) an epoch\(epochsText)"
      ),
      Fact(name: "memory", text: estimate.memoryText),
      Fact(name: "wire", text: estimate.wireText),
    ]
    if let teacher { facts.insert(Fact(name: "teacher", text: teacherText(teacher)), at: 1) }
    if !precision.isEmpty { facts.append(Fact(name: "precision", text: precision.joined(separator: "; "))) }
    let notes = [run.freezeText(frozen, parameters)].compactMap { $0 } + notes
    let warnings = run.warnings(totalSteps: steps) + warnings + Set(machine.joined()).sorted()
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

  private var ranksText: String { "\(ranks.size) \(ranks.size == 1 ? "rank" : "ranks")" }
  private var threadsText: String { "\(plan.compute) compute and \(run.data.workers ?? plan.loaders) loader threads" }
  private var processorText: String { "\(Machine.processorName), BLAS kernel \(BLAS.kernel)" }

  /// `node-1 (4), node-2 (4)`: the hosts in the order of their ranks, with how many each has; of many the first ones.
  static func hostsText(_ hosts: [String]) -> String {
    var counts: [String: Int] = [:]
    for host in hosts { counts[host, default: 0] += 1 }
    var seen: Set<String> = []
    let names = hosts.filter { seen.insert($0).inserted }
    let shown = 16
    return names.prefix(shown).map { "\($0) (\(counts[$0] ?? 0))" }.joined(separator: ", ")
      + (names.count > shown ? " and \(names.count - shown) more hosts" : "")
  }

  var modelText: String {
    let own = parameters.entries.filter { $0.owner == .objective }.reduce(0) { $0 + $1.shape.count }
    let statistics = run.model.syncBatchNorm ? "all ranks" : "each rank"
    return sizesText(config, parameters.parameterCount - own)
      + (config.vision.stages == nil ? "" : "; batch norm with the statistics of \(statistics)")
      + (own == 0 ? "" : "; and \(own) parameters of the objective's own")
  }

  private func teacherText(_ teacher: Teacher) -> String {
    let layout = CLIP<Float>.layout(teacher.config)
    return sizesText(teacher.config, layout.parameterCount)
      + "; from \(teacher.path), \(teacher.weights)"
      + (teacher.cache.map { "; not loaded: its embeddings come from \($0)" }
        ?? "; words of \(teacher.vocabulary); \(teacher.microBatchSize.map { "\($0)" } ?? "all") pairs at a time")
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

  private var dataText: String {
    zip(datasets, run.data.datasets).map { dataset, config in
      "\(dataset.name) \(dataset.count) images\(config.weight == 1 ? "" : " × \(config.weight)")"
    }.joined(separator: ", ") + "; \(sampler.samplesPerEpoch) samples an epoch"
  }

  private var pairsText: String {
    let counts = Set(ranks.slices(of: run.batch.global).map(\.count)).sorted()
    return counts.map(String.init).joined(separator: " or ")
  }

  private var epochsText: String {
    run.epochs.map { ", \($0) epochs" } ?? ""
  }

  private var estimate: RunEstimate { estimate(ranks: ranks.size, ofNode: ranks.nodeSize) }

  /// Measures what the process holds beside the run's own, when its inputs are there and its model is not: `weights`
  /// are the teacher's, where they are among the inputs.
  mutating func measureProgram(beside loaded: TeacherWeights?) {
    program = ProgramMemory.measure()
    guard let loaded, let teacher else { return }
    let held =
      loaded.shared > 0
      ? min(loaded.shared, Int(ProcessMemory.windows * 1_048_576))
      : 4 * weights(of: teacher.config, ranks.size, ranks.nodeSize)
    program = max(program - held, 0)
  }

  /// Of the rank that has most pairs, of so many, of which `nodeSize` share a node.
  func estimate(ranks: Int, ofNode nodeSize: Int) -> RunEstimate {
    RunEstimate(
      run, config, parameters,
      teacher: teacher.map { ($0.config, $0.microBatchSize, weights(of: $0.config, ranks, nodeSize)) },
      isCached: teacher?.cache != nil, frozen: frozen, ensemble: ensemble, captions: captions, threads: plan.compute,
      program: program,
      rank: ranks - 1, of: ranks)
  }

  /// The numbers of a teacher's weights that one rank answers for: of a node's only copy its share.
  private func weights(of teacher: CLIPConfig, _ ranks: Int, _ nodeSize: Int) -> Int {
    let count = CLIP<Float>.layout(teacher).count
    switch run.teacher?.placement ?? .replicated {
    case .replicated: return count
    case .node: return count / nodeSize
    case .sharded:
      let stages = CLIP<Float>.stages(teacher).map { $0.reduce(0) { $0 + $1.count } }.sorted()
      return count / min(run.teacher?.shardOver ?? ranks, ranks) + stages.suffix(2).reduce(0, +)
    }
  }
}

extension RunHeader.Teacher {
  static var absent: String { "which is not there" }

  init(_ model: TeacherModel) {
    config = model.config
    path = model.path
    weights = "SHA-256 \(model.sha256)"
    vocabulary = model.vocabulary
    microBatchSize = model.microBatchSize
    cache = model.cache
  }
}
