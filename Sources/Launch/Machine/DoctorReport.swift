import Foundation
import Tensor

/// What `doctor` says: the facts of every rank, and what is wrong.
struct DoctorReport: Codable {
  var version: String
  var ranks: [RankReport]
  /// Nil where a rank is alone.
  var network: NetworkReport?
  /// Nil where no folder was asked for.
  var folder: FolderReport?
  /// What `precision: auto` takes in a run on all of these ranks.
  var precision: PrecisionDecision?
  var findings: [String]

  init(_ reports: [RankReport], network: NetworkReport? = nil, folder: FolderReport? = nil) {
    version = Release.version
    ranks = reports
    self.network = network
    self.folder = folder
    let processors = reports.compactMap(\.identified)
    precision = processors.count == reports.count ? PrecisionDecision(on: processors) : nil
    findings =
      Diagnosis.findings(reports) + (network?.findings(reports) ?? []) + (folder?.findings(reports) ?? [])
  }

  /// One JSON object on one line.
  var json: String {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
  }

  /// The same for people: what holds for a node once, then a line for each rank, then the findings.
  var text: String {
    var lines = ["kinship \(version), \(ranks.count) \(ranks.count == 1 ? "rank" : "ranks")"]
    for node in nodes {
      lines +=
        [""] + facts(of: node[0]) + [
          "", "  rank  cores  threads  loaders  kernel        GFLOP/s: 1 core    all   bf16  bound to",
        ]
      lines += node.map(line)
    }
    if let network { lines += [""] + network.lines }
    if let folder { lines += [""] + folder.lines }
    lines.append("")
    if findings.isEmpty {
      lines.append("Nothing is wrong.")
    } else {
      lines.append("To be mended:")
      lines += findings.map { "- \($0)" }
    }
    return lines.joined(separator: "\n")
  }

  private var nodes: [[RankReport]] {
    Dictionary(grouping: ranks, by: \.node).sorted { $0.key < $1.key }.map(\.value)
  }

  private func facts(of report: RankReport) -> [String] {
    let host = report.host
    let chosen =
      switch report.kernelChoice {
      case .openblas: "OpenBLAS's own choice"
      case .kinship: "chosen by kinship from the processor"
      case .user: "set in OPENBLAS_CORETYPE"
      }
    let quota = report.cores.quota.map { ", time for \(Figures.significant($0, 3))" } ?? ""
    var facts = [
      ("processor", "\(host.processor), \(host.level.name)"),
      ("built for", report.built?.name ?? "this kind of processor"),
      ("cores", "\(report.cores.node)\(quota)"),
      ("BLAS", report.blas),
      ("BLAS kernel", "\(report.kernel), \(chosen)"),
      ("MPI", report.mpi),
      ("HDF5", "\(report.hdf5), file locking \(host.fileLocking.map { "HDF5_USE_FILE_LOCKING=\($0)" } ?? "as built")"),
    ]
    if let precision, let processor = report.identified {
      facts.append(("precision", "auto takes \(precisionText(precision, on: processor))"))
    }
    if let size = host.sharedMemory, let free = host.sharedMemoryFree {
      facts.append(("shared memory", "\(Figures.bytes(size)), \(Figures.bytes(free)) free"))
    }
    if host.container || host.root {
      facts.append(
        (
          "runs as",
          [host.root ? "root" : "user", host.container ? "in a container" : "on the host"].joined(separator: " ")
        ))
    }
    return ["node \(report.hostname)"]
      + facts.map { "  " + $0.0.padding(toLength: 15, withPad: " ", startingAt: 0) + $0.1 }
  }

  /// What `precision: auto` takes on all ranks and why; and what this host would take alone, where that is another.
  private func precisionText(_ decision: PrecisionDecision, on processor: RankProcessor) -> String {
    let alone = PrecisionDecision(processor.processor)
    return "\(decision.used.rawValue): \(decision.reason)"
      + (alone.used == decision.used ? "" : "; this host alone would take \(alone.used.rawValue): \(alone.reason)")
  }

  private func line(_ report: RankReport) -> String {
    func right(_ text: String, _ width: Int) -> String {
      String(repeating: " ", count: max(0, width - text.count)) + text
    }
    return right("\(report.rank)", 6) + right("\(report.cores.bound.count)", 7) + right("\(report.plan.compute)", 9)
      + right("\(report.plan.loaders)", 9) + "  " + report.kernel.padding(toLength: 14, withPad: " ", startingAt: 0)
      + right(Figures.fixed(report.oneCore, 1), 15) + right(Figures.fixed(report.allCores, 1), 7)
      + right(report.allCoresRounded.map { Figures.fixed($0, 1) } ?? "–", 7)
      + "  \(Diagnosis.spans(report.cores.bound))"
  }
}
