import ArgumentParser
import Dist
import Foundation

/// `kinship plan`: what a run will need on a cluster, and how long its steps will take.
struct Plan: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what a run will need on a cluster, and how long its steps will take.",
    discussion: """
      Memory of a rank by part, operations, bytes handed to each collective, and the time of a step by a model of costs, for \
      the ranks that are given and for up to thousands. Start it alone, where the run's files are; files that are not \
      there are replaced by what the run file says of their sizes, as in a dry run.
      """)

  @Argument(help: ArgumentHelp("The run file (YAML).", valueName: "run"))
  var file: String

  @Option(
    name: .customLong("set"),
    help: ArgumentHelp("Overrides one value of the run file, as in kinship train.", valueName: "path=value"))
  var overrides: [String] = []

  @Option(help: "How many ranks.")
  var ranks = 1

  @Option(help: "On how many nodes.")
  var nodes = 1

  @Option(help: "What passes between two nodes: 10gbit, 100mbit, 1.2GB (a second). Default 10gbit.")
  var bandwidth: Bandwidth?

  @Option(help: "How long a short message between two nodes takes: 20us, 0.1ms. Default 30us.")
  var latency: Latency?

  @Option(help: "Matrix products of a rank, in GFLOP/s; by default measured here and now.")
  var gflops: Double?

  @Option(
    name: .customLong("gflops-bf16"),
    help: "The same of operands rounded to bfloat16, for runs in bf16; as --gflops if nothing else says it.")
  var gflopsBf16: Double?

  @Option(
    help: ArgumentHelp(
      "What kinship doctor --json printed on the cluster: the rate of its slowest rank, latency and bandwidth, for those "
        + "that are not given here; and its processors, which decide precision: auto.", valueName: "file"))
  var doctor: String?

  @Flag(help: "Prints one JSON object instead of text.")
  var json = false

  func validate() throws {
    guard ranks >= 1, nodes >= 1, nodes <= ranks else {
      throw ValidationError("--ranks \(ranks) --nodes \(nodes): expected at least one rank on each node")
    }
    for (option, value) in [("--gflops", gflops), ("--gflops-bf16", gflopsBf16)] {
      guard 1e-6...1e12 ~= value ?? 1 else {
        throw ValidationError("\(option) \(value ?? 0): expected more than 0, 1e12 at most")
      }
    }
  }

  func run() throws {
    let run = try RunConfig.load(file, overrides: overrides)
    let found = try doctor.map { try DoctorFigures(contentsOf: $0) }
    let code = Job.run { ranks in
      let header = try Trainer(run: run, ranks: ranks, processors: found?.processors).prospect()
      let network = Wire(
        latency: latency?.seconds ?? found?.network?.latency ?? 30e-6,
        bandwidth: bandwidth?.bytes ?? found?.network?.bandwidth ?? 1.25e9)
      let cost = ClusterCost(
        ranks: self.ranks, nodes: nodes, network: network, memory: found?.memory ?? .sharedMemory)
      let exact = gflops.map { $0 * 1e9 }
      var rates =
        found?.rates ?? exact.map { ProductRates(fp32: $0, bf16: $0) }
        ?? .measure(threads: header.plan.compute, header.precisions)
      if let exact { rates.fp32 = exact }
      if let gflopsBf16 { rates.bf16 = gflopsBf16 * 1e9 }
      let source = found?.processors == nil ? "this machine" : "the hosts of \(doctor ?? "")"
      let plan = RunPlan(header, cost, rates, on: source)
      if ranks.rank == 0 {
        for warning in header.warnings { FileHandle.standardError.write(Data("warning: \(warning)\n".utf8)) }
        print(try json ? plan.json : plan.text(model: header.modelText))
      }
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }
}
