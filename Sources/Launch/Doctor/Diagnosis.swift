import Tensor

/// Finds problems with the machines of a job, each with the command that solves it.
enum Diagnosis {
  /// The least shared memory that a shared teacher needs, in bytes; containers get 64 MiB by default.
  private static let leastSharedMemory = 1 << 30

  /// Returns the findings over all ranks, each once; one that does not hold for all of them names its ranks.
  static func findings(_ reports: [RankReport]) -> [String] {
    let found = reports.map { (rank: $0.rank, texts: findings(of: $0)) }
    var seen: Set<String> = []
    let shared = found.flatMap(\.texts).filter { seen.insert($0).inserted }.map { text in
      let ranks = found.filter { $0.texts.contains(text) }.map(\.rank)
      return ranks.count == reports.count ? text : "\(name(ranks)): \(text)"
    }
    return shared + disagreements(reports)
  }

  private static func findings(of report: RankReport) -> [String] {
    var found: [String] = []
    let processor = report.host.level
    if let level = BLASKernel.level(of: report.kernel), level < processor {
      let best = BLASKernel.best(for: processor)
      let export = "type export OPENBLAS_CORETYPE=\(best)"
      found.append(
        !report.blas.contains("DYNAMIC_ARCH")
          ? "this OpenBLAS was built for \(report.kernel) only, but the processor supports \(best); install one that"
            + " chooses its kernels at run time (apt install libopenblas0-pthread)"
          : report.kernelChoice == .user
            ? "OPENBLAS_CORETYPE=\(report.kernel) is below what the processor supports; unset it, or \(export)"
            : "OpenBLAS runs \(report.kernel) kernels, but the processor supports \(best); \(export)")
    }
    if let built = report.built, built < processor {
      found.append(
        built == .baseline
          ? "this binary was built without AVX2 and FMA, and its vector loops are many times slower; build it with"
            + " KINSHIP_MARCH=native or KINSHIP_MARCH=x86-64-v3"
          : "this binary was built for \(built.name), but the processor supports \(processor.name); build it here, or"
            + " with KINSHIP_MARCH=\(processor.name)")
    }
    found += report.plan.warnings
    if report.plan.compute > 1, report.allCores < 0.5 * report.oneCore * Double(report.plan.compute) {
      found.append(
        "\(report.plan.compute) threads reach less than half of \(report.plan.compute) times the speed of one; look for"
          + " other work on these cores (top), or give the rank cores of its own (mpirun --bind-to core)")
    }
    if let size = report.host.sharedMemory, size < leastSharedMemory {
      found.append(
        "/dev/shm holds \(Figures.bytes(size)), too little for ranks to share a teacher;"
          + " start the container with --shm-size=2g, or mount -o remount,size=2g /dev/shm")
    }
    if let locking = report.host.fileLocking,
      !["TRUE", "FALSE", "BEST_EFFORT", "1", "0"].contains(locking.uppercased())
    {
      found.append("HDF5_USE_FILE_LOCKING=\(locking) is not a value that HDF5 knows; set TRUE, FALSE or BEST_EFFORT")
    }
    if !report.host.missingVariables.isEmpty {
      let who = report.host.root ? report.host.container ? "root in a container" : "root" : "a container"
      found.append("mpirun as \(who) needs: export \(report.host.missingVariables.joined(separator: " "))")
    }
    return found
  }

  private static func disagreements(_ reports: [RankReport]) -> [String] {
    var found: [String] = []
    func compare(_ what: String, _ fix: String, _ value: (RankReport) -> String) {
      let values = Dictionary(grouping: reports, by: value)
      guard values.count > 1 else { return }
      let parts = values.sorted { $0.value[0].rank < $1.value[0].rank }.map { "\($0) on \(name($1.map(\.rank)))" }
      found.append("ranks differ in \(what) (\(parts.joined(separator: ", "))); \(fix)")
    }
    let export = "set the same OPENBLAS_CORETYPE everywhere (mpirun -x), or results differ in their last bits"
    compare("BLAS kernels", export, \.kernel)
    let release = "install the same release on every node, and set the same ONEDNN_MAX_CPU_ISA (mpirun -x)"
    compare("oneDNN", "\(release), or results differ in their last bits") { $0.oneDNN?.text ?? "none" }
    let bind = "a step waits for the slowest rank; give each the same cores (mpirun --map-by slot:PE=n)"
    compare("threads", bind) { "\($0.plan.compute)" }
    compare("the MPI library", "install the same release on every node", \.mpi)
    for (name, ranks) in Dictionary(grouping: reports, by: \.hostname) where Set(ranks.map(\.host.boot)).count > 1 {
      found.append(
        "\(Self.name(ranks.map(\.rank))) are on different machines that are all called \(name): MPI takes them for"
          + " one and waits forever for shared memory; give each its own name (hostnamectl set-hostname)")
    }
    return found
  }

  /// Returns `rank 3` or `ranks 0-3, 8`.
  static func name(_ ranks: [Int]) -> String { (ranks.count == 1 ? "rank " : "ranks ") + spans(ranks) }

  /// Returns `0-3, 8`.
  static func spans(_ numbers: [Int]) -> String {
    var runs: [ClosedRange<Int>] = []
    for number in numbers.sorted() {
      let follows = runs.last?.upperBound == number - 1
      runs.append((follows ? runs.removeLast().lowerBound : number)...number)
    }
    return runs.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ", ")
  }
}
