import Dist
import Foundation

/// The node under this process, as far as a run depends on it.
struct Host: Sendable, Equatable, Codable {
  /// Tells nodes apart where host names do not: the same for all containers on one kernel.
  var boot: String
  var processor: String
  /// What tells the processor apart, for `precision: auto`; nil where a file of an earlier version does not say it.
  var identity: Processor?
  var level: BLASKernel.Level
  /// Size and free space of the shared-memory file system in bytes, where there is one.
  var sharedMemory: Int?
  var sharedMemoryFree: Int?
  /// `HDF5_USE_FILE_LOCKING` as given; nil: HDF5's own default.
  var fileLocking: String?
  var container: Bool
  var root: Bool
  /// The variables that let root and containers run under mpirun, as far as they are not set.
  var missingVariables: [String]

  static var current: Host {
    let environment = ProcessInfo.processInfo.environment
    let space = try? FileManager.default.attributesOfFileSystem(forPath: "/dev/shm")
    let boot = try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)
    let files = ["/.dockerenv", "/run/.containerenv", "/singularity", "/.singularity.d"]
    let variables = ["container", "KUBERNETES_SERVICE_HOST", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"]
    let container =
      files.contains(where: FileManager.default.fileExists(atPath:)) || variables.contains { environment[$0] != nil }
    let root = geteuid() == 0
    var wanted: [String] = []
    if root { wanted += ["OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"] }
    if container { wanted += ["OMPI_MCA_btl_vader_single_copy_mechanism=none"] }
    return Host(
      boot: boot.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) } ?? ProcessInfo.processInfo.hostName,
      processor: Machine.processorName, identity: .current, level: Machine.level,
      sharedMemory: (space?[.systemSize] as? NSNumber)?.intValue,
      sharedMemoryFree: (space?[.systemFreeSize] as? NSNumber)?.intValue,
      fileLocking: environment["HDF5_USE_FILE_LOCKING"].flatMap { $0.isEmpty ? nil : $0 },
      container: container, root: root,
      missingVariables: wanted.filter { environment[String($0.prefix { $0 != "=" })] == nil })
  }
}
