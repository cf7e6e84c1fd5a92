internal import Foundation

/// A file that several ranks try to lock, to find out what a file system does with locks.
public final class LockTrial {
  /// How a file is locked: HDF5 uses the first where there is one.
  public enum Kind: String, CaseIterable, Sendable, Codable { case flock, fcntl }

  /// What came of a lock for this process alone.
  public enum Outcome: Sendable, Codable, Equatable {
    case granted
    /// Another process has it.
    case held
    /// The file system's answer.
    case failed(String)
  }

  private let path: String
  private let descriptor: Int32

  /// Opens the file, which must be there, to read and write.
  public init(_ path: String) throws {
    self.path = path
    descriptor = unsafe path.withCString { unsafe open($0, O_RDWR | O_CLOEXEC) }
    if descriptor < 0 { throw FileError.system("open", path) }
  }

  deinit { close(descriptor) }

  /// Asks for the whole file and does not wait. What is granted is kept until this object goes.
  public func lock(_ kind: Kind) -> Outcome {
    let result: Int32
    switch kind {
    case .flock: result = flock(descriptor, LOCK_EX | LOCK_NB)
    case .fcntl:
      var whole = flock()
      whole.l_type = Int16(F_WRLCK)
      whole.l_whence = Int16(SEEK_SET)
      result = unsafe fcntl(descriptor, F_SETLK, &whole)
    }
    if result == 0 { return .granted }
    let code = errno
    if [EWOULDBLOCK, EAGAIN, EACCES].contains(code) { return .held }
    return .failed(unsafe String(cString: strerror(code)))
  }
}
