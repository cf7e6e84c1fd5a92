import CMachine
import Foundation
import Tensor

/// The processor under this process, and what must be settled before anything else starts.
enum Machine {
  /// Says, in a process that was started anew, what the first one changed: `kernel`, `kernel,threads` or `unset`.
  static let marker = "KINSHIP_REEXEC"

  /// What the processor offers.
  static var level: BLASKernel.Level { BLASKernel.Level(rawValue: Int(kinship_vector_level())) ?? .baseline }

  /// What this binary was compiled for; nil where x86's levels mean nothing.
  static var builtLevel: BLASKernel.Level? { BLASKernel.Level(rawValue: Int(kinship_built_level())) }

  /// Whether the launcher, if there is one, calls this process rank 0. MPI need not be started.
  static var isFirstRank: Bool {
    let environment = ProcessInfo.processInfo.environment
    let names = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"]
    return names.lazy.compactMap { environment[$0] }.first.map { $0 == "0" } ?? true
  }

  /// Whether the program itself, not the user, chose the BLAS kernel.
  static var choseKernel: Bool {
    ProcessInfo.processInfo.environment[marker]?.hasPrefix("kernel") ?? false
  }

  /// Starts the program anew if OpenBLAS has picked kernels below what the processor can do.
  ///
  /// OpenBLAS reads its variable when it is loaded, so there is no later moment; and it must be before MPI starts,
  /// since a launcher counts a process that leaves MPI without a word as failed. Process number, arguments and open
  /// files stay, so a launcher does not notice. If starting anew fails, the run goes on with the kernels it has.
  static func chooseKernel() {
    #if os(Linux) && arch(x86_64)
      let environment = ProcessInfo.processInfo.environment
      // One start anew for each step: first without the empty variable, then with our choice.
      let done = environment[marker]
      guard done == nil || done == "unset", BLAS.configuration.contains("DYNAMIC_ARCH") else { return }
      let given = environment[BLASKernel.variable]
      switch BLASKernel.change(kernel: BLAS.kernel, processor: level, given: given) {
      case nil: return
      case .unset where done != nil: return
      case .unset:
        unsafe unsetenv(BLASKernel.variable)
        unsafe setenv(marker, "unset", 1)
      case .set(let kernel):
        unsafe setenv(BLASKernel.variable, kernel, 1)
        // Threads that OpenBLAS would start while it is loaded are started when the plan is known.
        let names = ["OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"]
        let limited = names.contains { environment[$0].map { !$0.isEmpty } ?? false }
        if !limited { unsafe setenv("OPENBLAS_NUM_THREADS", "1", 1) }
        unsafe setenv(marker, limited ? "kernel" : "kernel,threads", 1)
      }
      startAnew()
    #endif
  }

  /// Replaces this process's program by itself; returns only if that fails.
  private static func startAnew() {
    let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "/proc/self/exe"
    unsafe execv(program, CommandLine.unsafeArgv)
    let reason = unsafe String(cString: strerror(errno))
    FileHandle.standardError.write(
      Data("kinship: cannot start \(program) anew for better BLAS kernels (\(reason)); it will be slow\n".utf8))
  }

  /// The name of a processor that the kernel does not tell.
  static let unknownProcessor = "unknown"

  /// The processor's name as the kernel tells it.
  static var processorName: String {
    let lines = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let line = lines.split(separator: "\n").first { $0.hasPrefix("model name") }
    let name = line?.split(separator: ":", maxSplits: 1).last.map { $0.trimmingCharacters(in: .whitespaces) }
    return name ?? unknownProcessor
  }
}
