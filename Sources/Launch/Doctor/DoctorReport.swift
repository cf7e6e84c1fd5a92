import Dist
import Foundation
import Tensor

/// The output of `kinship doctor`: the facts of every rank, and the problems found.
struct DoctorReport: Codable {
  var version: String
  var ranks: [RankReport]
  /// Nil if the job has one rank.
  var network: NetworkReport?
  /// Nil if the job has one rank.
  var transports: TransportReport?
  /// Nil if no folder was given.
  var folder: FolderReport?
  /// The choice of `precision: auto` in a run on all of these ranks.
  var precision: PrecisionDecision?
  var findings: [String]

  init(
    _ reports: [RankReport], network: NetworkReport? = nil, transports: TransportReport? = nil,
    folder: FolderReport? = nil
  ) {
    (version, ranks, self.network) = (Release.version, reports, network)
    (self.transports, self.folder) = (transports, folder)
    let processors = reports.compactMap(\.identified)
    precision = processors.count == reports.count ? PrecisionDecision(on: processors) : nil
    findings =
      Diagnosis.findings(reports) + reports.buildFindings + (network?.findings(reports) ?? [])
      + (transports?.findings(reports.first?.messageLayer) ?? []) + (folder?.findings(reports) ?? [])
  }

  /// The report for people: each node's facts, a line for each of its ranks, then the findings.
  var text: String {
    var lines = ["kinship \(version), \(Figures.count(ranks.count, "rank"))"]
    for (_, node) in Dictionary(grouping: ranks, by: \.node).sorted(by: { $0.key < $1.key }) {
      lines += [""] + facts(of: node[0])
      lines += ["", "  rank  cores  threads  loaders  kernel        GFLOP/s: 1 core    all   bf16  bound to"]
      lines += node.map(line)
    }
    for part in [ranks.libraryLines, network?.lines ?? [], transports?.lines ?? [], folder?.lines ?? []]
    where !part.isEmpty { lines += [""] + part }
    lines += ["", findings.isEmpty ? "No problems were found." : "Problems:"] + findings.map { "- \($0)" }
    return lines.joined(separator: "\n")
  }

  private func facts(of report: RankReport) -> [String] {
    let host = report.host
    let quota = report.cores.quota.map { ", time for \(Figures.significant($0, 3))" } ?? ""
    var facts = [
      ("processor", "\(host.processor), \(host.level.name)"),
      ("built for", report.built?.name ?? "this kind of processor"), ("cores", "\(report.cores.node)\(quota)"),
      ("BLAS", report.blas), ("BLAS kernel", "\(report.kernel), \(report.kernelChoice.text)"),
      ("MPI", report.mpi + (report.path(of: "libmpi").map { ", from \($0)" } ?? "")),
      ("HDF5", "\(report.hdf5), file locking \(host.fileLocking.map { "HDF5_USE_FILE_LOCKING=\($0)" } ?? "as built")"),
    ]
    if let layer = report.messageLayer { facts.append(("messages by", layer.text)) }
    if let library = report.oneDNN { facts.append((library.name, "\(library.version), \(library.instructions)")) }
    if let precision, let own = report.identified {
      let alone = PrecisionDecision(own.processor)
      let other = alone.used == precision.used ? "" : "; this host alone would take \(alone.plainText)"
      facts.append(("precision", "auto takes \(precision.plainText)\(other)"))
    }
    if let size = host.sharedMemory, let free = host.sharedMemoryFree {
      facts.append(("shared memory", "\(Figures.bytes(size)), \(Figures.bytes(free)) free"))
    }
    if host.container || host.root {
      facts.append(("runs as", "\(host.root ? "root" : "user") \(host.container ? "in a container" : "on the host")"))
    }
    return ["node \(report.hostname)"] + facts.map { Self.fact($0.0, $0.1) }
  }

  /// Returns a fact with its name in a column of 15 characters.
  static func fact(_ name: String, _ text: String) -> String {
    "  " + name.padding(toLength: 15, withPad: " ", startingAt: 0) + text
  }

  private func line(_ report: RankReport) -> String {
    let kernel = "  " + report.kernel.padding(toLength: 14, withPad: " ", startingAt: 0)
    return Figures.row(
      ("\(report.rank)", 6), ("\(report.cores.bound.count)", 7), ("\(report.plan.compute)", 9),
      ("\(report.plan.loaders)", 9), (kernel, 16), (Figures.fixed(report.oneCore, 1), 15),
      (Figures.fixed(report.allCores, 1), 7), (report.allCoresRounded.map { Figures.fixed($0, 1) } ?? "–", 7))
      + "  \(Diagnosis.spans(report.cores.bound))"
  }
}

/// The facts and measurements of one rank.
struct RankReport: Sendable, Codable, Equatable {
  var rank: Int
  var hostname: String
  /// The first rank of its node, which holds all ranks that share memory by MPI's account.
  var node: Int
  var host: Host
  var cores: Cores
  var plan: ThreadPlan
  /// The level the binary was compiled for; nil if x86's levels do not apply.
  var built: BLASKernel.Level?
  var kernel: String
  var kernelChoice: KernelChoice
  var blas: String
  /// The rate of a single-precision matrix product in GFLOP/s, on one core and on all cores of the plan.
  var oneCore, allCores: Double
  /// The rate on all cores with operands rounded to bfloat16; nil if the processor has no such products.
  var allCoresRounded: Double?
  var mpi, hdf5: String
  /// The release of oneDNN and the instructions that it uses; nil in a file of an earlier version.
  var oneDNN: Arithmetic.Library?
  /// The components of MPI that carry messages, and the files of program and libraries; nil in a file of an earlier
  /// version.
  var messageLayer: MessageLayer?
  var files: [LoadedFile]?
  /// The program itself; nil in a file of an earlier version.
  var program: LoadedFile? { files?.first { $0.name == LoadedFile.program } }
  /// Returns the path that a library was loaded from; nil if it is not known.
  func path(of library: String) -> String? { files?.first { $0.name == library }?.path }
  /// The rank's processor, for `precision: auto`; nil if it is not known.
  var identified: RankProcessor? { host.identity.map { RankProcessor(hostname: hostname, processor: $0) } }

  enum KernelChoice: String, Sendable, Codable {
    case openblas, kinship, user

    var text: String {
      switch self {
      case .openblas: "OpenBLAS's own choice"
      case .kinship: "chosen by kinship from the processor"
      case .user: "set in OPENBLAS_CORETYPE"
      }
    }
  }

  /// Measures this rank while all ranks do the same, as in a run. Every rank must call it.
  static func measure(over ranks: Communicator) throws -> RankReport {
    let plan = try ThreadPlan.agreed(over: ranks)
    let node = try ranks.nodes()[ranks.rank]
    try ranks.barrier()
    let oneCore = MatrixRate.measure(threads: 1)
    try ranks.barrier()
    let allCores = plan.compute == 1 ? oneCore : MatrixRate.measure(threads: plan.compute)
    try ranks.barrier()
    let rounded = RoundedProducts.instructions.map { _ in MatrixRate.measure(threads: plan.compute, .bf16) }
    let given = ProcessInfo.processInfo.environment[BLASKernel.variable].map { !$0.isEmpty } ?? false
    return RankReport(
      rank: ranks.rank, hostname: ranks.hostname, node: node, host: .current, cores: .current, plan: plan,
      built: Machine.builtLevel, kernel: BLAS.kernel,
      kernelChoice: Machine.choseKernel ? .kinship : given ? .user : .openblas,
      blas: BLAS.configuration.split(separator: " ").joined(separator: " "), oneCore: oneCore, allCores: allCores,
      allCoresRounded: rounded, mpi: Libraries.mpi, hdf5: Libraries.hdf5, oneDNN: .oneDNN,
      messageLayer: .current, files: try LoadedFile.all(over: ranks))
  }
}
