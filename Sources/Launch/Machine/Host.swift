import Dist
import Foundation

/// The node under this process, as far as a run depends on it.
struct Host: Sendable, Equatable, Codable {
  /// Distinguishes nodes of the same host name: it is the same for all containers on one kernel.
  var boot: String
  var processor: String
  /// The processor's identity, for `precision: auto`; nil in a file of an earlier version.
  var identity: Processor?
  var level: BLASKernel.Level
  /// The size of the shared-memory file system in bytes, and what is free of it, if there is one.
  var sharedMemory, sharedMemoryFree: Int?
  /// The value of `HDF5_USE_FILE_LOCKING`; if nil, HDF5 uses its own default.
  var fileLocking: String?
  var container, root: Bool
  /// The variables that root and containers need under mpirun and that are not set.
  var missingVariables: [String]

  static var current: Host {
    let environment = ProcessInfo.processInfo.environment
    let space = try? FileManager.default.attributesOfFileSystem(forPath: "/dev/shm")
    let boot = SystemFile.text("/proc/sys/kernel/random/boot_id")
    let files = ["/.dockerenv", "/run/.containerenv", "/singularity", "/.singularity.d"]
    let variables = ["container", "KUBERNETES_SERVICE_HOST", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"]
    let container =
      files.contains(where: FileManager.default.fileExists(atPath:)) || variables.contains { environment[$0] != nil }
    let root = geteuid() == 0
    let singleCopy =
      Libraries.openMPI >= 5 ? "OMPI_MCA_smsc=^cma" : "OMPI_MCA_btl_vader_single_copy_mechanism=none"
    let wanted =
      (root ? ["OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"] : []) + (container ? [singleCopy] : [])
    return Host(
      boot: boot.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) } ?? ProcessInfo.processInfo.hostName,
      processor: Machine.processorName, identity: .current, level: Machine.level,
      sharedMemory: (space?[.systemSize] as? NSNumber)?.intValue,
      sharedMemoryFree: (space?[.systemFreeSize] as? NSNumber)?.intValue,
      fileLocking: environment["HDF5_USE_FILE_LOCKING"].flatMap { $0.isEmpty ? nil : $0 }, container: container,
      root: root, missingVariables: wanted.filter { environment[String($0.prefix { $0 != "=" })] == nil })
  }
}

/// The resident memory of this process in MiB, as Linux counts it.
enum ProcessMemory {
  /// The most that has been resident since the start or the last reset.
  static var peak: Double { number("VmHWM:", in: "/proc/self/status") / 1024 }
  /// The memory that is resident now, and the part of it that processes share, such as windows.
  static var now: Double { number("VmRSS:", in: "/proc/self/status") / 1024 }
  static var windows: Double { number("RssShmem:", in: "/proc/self/status") / 1024 }
  /// The memory that is not a file's, where a page that n processes have mapped counts as one nth: the sum is what they
  /// hold together. Pages of programs and libraries would count less whenever another process starts.
  static var share: Double {
    let lines = Self.lines(of: "/proc/self/smaps_rollup")
    return (number("Pss:", in: lines) - number("Pss_File:", in: lines)) / 1024
  }

  /// Lowers the peak to what is resident now, if the system allows it.
  static func resetPeak() { try? "5".write(toFile: "/proc/self/clear_refs", atomically: false, encoding: .utf8) }

  /// The bytes that this process has read from files since its start.
  static var read: Double { number("rchar:", in: "/proc/self/io") }

  /// Returns the number of the line of a file that begins with `name`, or 0.
  static func number(_ name: String, in file: String) -> Double { number(name, in: lines(of: file)) }

  private static func lines(of file: String) -> [Substring] {
    (SystemFile.text(file) ?? "").split(separator: "\n")
  }

  /// Returns the number of a line `NAME   123 kB`, or 0 if there is no such line.
  private static func number(_ name: String, in lines: [Substring]) -> Double {
    let line = lines.first { $0.hasPrefix(name) }
    return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Double($0) } ?? 0
  }
}
