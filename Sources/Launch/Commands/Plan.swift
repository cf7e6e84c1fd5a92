import ArgumentParser
import Dist
import Foundation

struct Plan: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Estimates what a run will need on a cluster, and how long its steps will take.",
    discussion: help(
      """
      It prints the memory of a rank by part, the operations, the bytes handed to each collective, and the time of a \
      step according to a cost model, for the given number of ranks and for up to thousands. For the given number, \
      1,024 and 4,096 it says where the time goes, and which changes would raise the efficiency. Then come the memory \
      that a rank needs for the run's retrieval evaluations, or for one of any size, and the node-hours of the whole \
      run on named processors, from their measured steps. Start it alone, where the run's files are; for missing files \
      it uses the sizes given in the run file, as a dry run does.
      """, example: "kinship plan run.yaml --ranks 512 --nodes 16 --bandwidth 25gbit"))

  @Argument(help: ArgumentHelp("The run file (YAML).", valueName: "run")) var file: String
  @Option(
    name: .customLong("set"),
    help: ArgumentHelp("Overrides one value of the run file, as in kinship train.", valueName: "path=value"))
  var overrides: [String] = []
  @Option(help: "The number of ranks, at most \(ClusterCost.mostRanks).") var ranks = 1
  @Option(help: "The number of nodes.") var nodes = 1
  @Option(help: "Bandwidth between two nodes: 10gbit, 100mbit, 1.2GB (per second). Default: 10gbit.")
  var bandwidth: Bandwidth?
  @Option(help: "Latency of a short message between two nodes: 20us, 0.1ms. Default: 30us.") var latency: Latency?
  @Option(help: "Bandwidth of the file system to which all ranks together write checkpoints: 2GB. Default: 1GB.")
  var storage: Bandwidth?
  @Option(help: "Rate of a rank's matrix products in GFLOP/s. Default: measured on this machine.") var gflops: Double?
  @Option(
    name: .customLong("gflops-bf16"),
    help: "The same for operands rounded to bfloat16, for runs in bf16. Default: that of --gflops.")
  var gflopsBf16: Double?
  @Option(help: "Cores of a node, for the hours on named processors. Default: one for each rank of a node.")
  var cores: Int?
  @Option(
    help: ArgumentHelp(
      "The output of kinship doctor --json on the cluster. It supplies the rate of the slowest rank, latency and "
        + "bandwidth where they are not given here, and the processors, which decide precision: auto.",
      valueName: "file"))
  var doctor: String?
  @Option(help: "Also estimates a retrieval evaluation of so many images.") var evaluationImages: Int?
  @Option(help: "The number of its captions. Default: as many as images.") var evaluationCaptions: Int?
  @Flag(help: "Prints one JSON object instead of text.") var json = false

  func validate() throws {
    try require(
      evaluationCaptions == nil || evaluationImages != nil, "--evaluation-captions belongs to --evaluation-images")
    for (option, value) in [("images", evaluationImages), ("captions", evaluationCaptions)] {
      try require(
        1...Int(Int32.max) ~= value ?? 1, "--evaluation-\(option) \(value ?? 0): expected 1 to \(Int32.max)")
    }
    try require(
      1...ClusterCost.mostRanks ~= ranks && 1...ranks ~= nodes,
      "--ranks \(ranks) --nodes \(nodes): expected at least one rank on each node, "
        + "\(ClusterCost.mostRanks) in all at most")
    try require(
      1...RunHours.mostCores ~= cores ?? 1, "--cores \(cores ?? 0): expected 1 to \(RunHours.mostCores)")
    for (option, value) in [("--gflops", gflops), ("--gflops-bf16", gflopsBf16)] {
      try require(1e-6...1e12 ~= value ?? 1, "\(option) \(value ?? 0): expected more than 0, 1e12 at most")
    }
  }

  func run() throws {
    let run = try RunConfig.load(file, overrides: overrides)
    let found = try doctor.map { try DoctorFigures(contentsOf: $0) }
    try Job.perform { ranks in
      let preview = try Trainer(run: run, ranks: ranks, processors: found?.processors).preview()
      let network = Link(
        latency: latency?.seconds ?? found?.network?.latency ?? Link.network.latency,
        bandwidth: bandwidth?.bytes ?? found?.network?.bandwidth ?? Link.network.bandwidth)
      let cost = ClusterCost(ranks: self.ranks, nodes: nodes, network: network, memory: found?.memory ?? .sharedMemory)
      let exact = gflops.map { $0 * 1e9 }
      var rates =
        found?.rates ?? exact.map { ProductRates(fp32: $0, bf16: $0) }
        ?? .measure(threads: preview.shape.threads, preview.shape.precisions)
      if let exact { rates.fp32 = exact }
      if let gflopsBf16 { rates.bf16 = gflopsBf16 * 1e9 }
      try preview.shape.requireCountable(batch: RunPlan.largestBatch(run.batch.global, ranks: self.ranks))
      let source = found?.processors == nil ? "this machine" : "the hosts of \(doctor ?? "")"
      let asked = evaluationImages.map { images in
        RunPreview.Retrieval(name: "a retrieval", images: images, captions: evaluationCaptions ?? images)
      }
      let between = BetweenSteps(run, steps: preview.steps, storage: storage?.bytes ?? 1e9)
      var plan = RunPlan(
        preview.shape, cost, rates, between, precision: preview.precisionText.map { "\($0), as on \(source)" },
        retrievals: preview.retrievals + [asked].compactMap { $0 })
      plan.hours = try RunHours(
        preview.shape, cost, steps: preview.steps, cores: cores ?? cost.ranksOfNode,
        precision: run.precision == .auto ? nil : run.precision.used)
      guard ranks.rank == 0 else { return }
      for warning in run.warnings(totalSteps: preview.steps) + preview.warnings { Job.report("warning: \(warning)") }
      let model = RunHeader(preview, over: ranks).modelText
      try StandardOutput.print(json ? plan.jsonText() : plan.text(model: model), isJSON: json)
    }
  }
}
