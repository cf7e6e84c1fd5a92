import CMachine
import Dist
import Foundation
import Tensor

/// The processor under this process, and the choice of BLAS kernels, which precedes everything else.
enum Machine {
  /// The variable that tells a restarted process what the first one changed: `kernel`, `kernel,threads` or `unset`.
  static let marker = "KINSHIP_REEXEC"
  /// The vector instructions that the processor offers.
  static var level: BLASKernel.Level { BLASKernel.Level(rawValue: Int(kinship_vector_level())) ?? .baseline }
  /// The level this binary was compiled for; nil if x86's levels do not apply.
  static var builtLevel: BLASKernel.Level? { BLASKernel.Level(rawValue: Int(kinship_built_level())) }

  /// True if the launcher, if there is one, calls this process rank 0. MPI need not be started.
  static var isFirstRank: Bool {
    (Job.launchedRank ?? ProcessInfo.processInfo.environment["SLURM_PROCID"] ?? "0") == "0"
  }

  /// True if the program itself, not the user, chose the BLAS kernel.
  static var choseKernel: Bool { ProcessInfo.processInfo.environment[marker]?.hasPrefix("kernel") ?? false }

  /// Restarts the program if OpenBLAS has picked kernels below what the processor supports: OpenBLAS reads its variable
  /// while it is loaded. This must happen before MPI starts, because a launcher takes a process that leaves MPI without
  /// finalizing it for failed. Process number, arguments and open files stay the same, so a launcher does not notice.
  /// If the restart fails, the run continues with the kernels it has.
  static func chooseKernel() {
    #if os(Linux) && arch(x86_64)
      let environment = ProcessInfo.processInfo.environment
      // There is one restart for each step: first without the empty variable, then with our choice.
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
        // Keeps OpenBLAS from starting threads while it is loaded; they start when the thread plan is known.
        let names = ["OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"]
        let limited = names.contains { environment[$0].map { !$0.isEmpty } ?? false }
        if !limited { unsafe setenv("OPENBLAS_NUM_THREADS", "1", 1) }
        unsafe setenv(marker, limited ? "kernel" : "kernel,threads", 1)
      }
      restart()
    #endif
  }

  /// Replaces this process's program by itself; returns only if that fails.
  private static func restart() {
    let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "/proc/self/exe"
    StopRequest.hold()
    unsafe execv(program, CommandLine.unsafeArgv)
    let reason = unsafe String(cString: strerror(errno))
    StopRequest.listen()
    Job.report("kinship: cannot restart \(program) with better BLAS kernels (\(reason)); it will be slow")
  }

  /// The name of a processor that the kernel does not name.
  static let unknownProcessor = "unknown"
  static var processorName: String {
    let lines = SystemFile.text("/proc/cpuinfo") ?? ""
    let line = lines.split(separator: "\n").first { $0.hasPrefix("model name") }
    return line?.split(separator: ":", maxSplits: 1).last?.trimmingCharacters(in: .whitespaces) ?? unknownProcessor
  }

  /// The SHA-256 of this program, or of the list of its package. Ranks with different builds would not compute the
  /// same.
  static var programSHA256: String {
    get throws {
      #if os(Linux)
        // This is the file that was started, even if another file has taken its name since.
        let own = try SHA256.ofFile("/proc/self/exe")
        let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        return path.flatMap { packageSHA256(of: own, at: $0) } ?? own
      #else
        return try SHA256.ofFile(Bundle.main.executablePath ?? CommandLine.arguments[0])
      #endif
    }
  }

  /// Returns the SHA-256 of the list of a package's programs, given the SHA-256 of the program at `path`; nil if there
  /// is no list that names it.
  ///
  /// An installed package has one program for each of two levels of x86-64, both from the same source, in folders of
  /// their own beside the list `programs.sha256`. Ranks on different processors may start different ones of them, which
  /// differ in their `Arithmetic` and in nothing else.
  static func packageSHA256(of program: String, at path: String) -> String? {
    let folder = URL(filePath: path).deletingLastPathComponent().deletingLastPathComponent()
    let list = try? String(contentsOf: folder.appending(path: "programs.sha256"), encoding: .utf8)
    guard let list, list.contains(program) else { return nil }
    return SHA256.hash(list.utf8).hexadecimal
  }
}

/// Chooses the OpenBLAS kernels that suit a processor. OpenBLAS chooses by a list of model numbers that ends with its
/// release: a newer processor gets the list's last entry, whose kernels are often only half or a quarter as fast.
enum BLASKernel {
  /// Vector instructions that the processor and operating system offer, or that kernels are written for.
  enum Level: Int, Comparable, Sendable, Codable {
    case baseline, avx2, avx512

    static func < (a: Level, b: Level) -> Bool { a.rawValue < b.rawValue }

    /// The level's name in compilers' options.
    var name: String { Arithmetic.levels[rawValue] }
  }

  /// A change of the environment, after which the program must restart.
  enum Change: Equatable, Sendable {
    case unset
    case set(String)
  }

  static let variable = "OPENBLAS_CORETYPE"

  /// Returns the level of a kernel by OpenBLAS's name, or nil if the name is not known here; such a kernel is kept.
  static func level(of kernel: String) -> Level? {
    switch kernel.lowercased() {
    case "skylakex", "cooperlake", "sapphirerapids": .avx512
    case "haswell", "zen", "excavator": .avx2
    case "prescott", "core2", "penryn", "dunnington", "nehalem", "sandybridge", "atom", "nano", "katmai",
      "coppermine", "northwood", "banias", "athlon", "opteron", "opteron_sse3", "barcelona", "bobcat", "bulldozer",
      "piledriver", "steamroller":
      .baseline
    default: nil
    }
  }

  /// Returns the change that gives OpenBLAS better kernels, or nil if it already has suitable ones.
  /// `given` is the environment's `OPENBLAS_CORETYPE`: a value is the user's choice and wins; an empty one, which
  /// OpenBLAS takes for an unknown name, counts as none.
  static func change(kernel: String, processor: Level, given: String?) -> Change? {
    if let given { return given.isEmpty ? .unset : nil }
    guard let level = level(of: kernel), level < processor else { return nil }
    return .set(best(for: processor))
  }

  /// Returns the kernels for a level. SkylakeX stands for all of AVX-512: later kernels only add number formats to it.
  static func best(for processor: Level) -> String { ["Prescott", "Haswell", "SkylakeX"][processor.rawValue] }
}
