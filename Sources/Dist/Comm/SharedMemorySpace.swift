internal import Foundation

/// The file system that holds shared memory, and its room.
public struct SharedMemorySpace: Sendable {
  public let folder: String
  /// Bytes.
  public let size: Int
  public let free: Int

  public init(folder: String, size: Int, free: Int) {
    self.folder = folder
    self.size = size
    self.free = free
  }

  /// That of this machine as it is now, in the folder where Open MPI makes its windows; nil where it cannot be known.
  public static var current: SharedMemorySpace? {
    let chosen = ProcessInfo.processInfo.environment["OMPI_MCA_osc_sm_backing_directory"]
    let folder = chosen.flatMap { $0.isEmpty ? nil : $0 } ?? "/dev/shm"
    var status = statvfs()
    guard unsafe statvfs(folder, &status) == 0 else { return nil }
    let block = Int(status.f_frsize)
    return SharedMemorySpace(folder: folder, size: Int(status.f_blocks) * block, free: Int(status.f_bavail) * block)
  }

  /// What MPI itself may take for messages between ranks meanwhile.
  private static let margin = 16 << 20

  /// Throws where `bytes` do not fit.
  func check(_ bytes: Int, host: String) throws(SharedMemoryError) {
    let needed = bytes + Self.margin
    guard free < needed else { return }
    // What is there now stays; whole quarters of a GiB are easier to type.
    let wanted = (size - free + needed + 1 << 28 - 1) >> 28 * 256
    throw SharedMemoryError(
      host: host,
      reason: "\(folder) has \(free >> 20) MiB free, and \(needed >> 20 + 1) MiB are needed; start the container with "
        + "--shm-size=\(wanted)m, or as root type mount -o remount,size=\(wanted)m \(folder)")
  }
}

/// Shared memory that a node does not have.
public struct SharedMemoryError: ExitCoded, CustomStringConvertible {
  public let host: String
  public let reason: String

  public var exitCode: Int32 { 74 }
  public var description: String { "no shared memory for the ranks of \(host): \(reason)" }
}
