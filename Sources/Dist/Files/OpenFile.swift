internal import Foundation
internal import Synchronization

/// An open file. It is not mapped, because a mapped file that shrinks kills the process. Numbers are little-endian.
package final class OpenFile: Sendable {
  package let path: String
  private let descriptor: Int32

  init(_ path: String, _ action: String, _ flags: Int32) throws(FileError) {
    self.path = path
    descriptor = unsafe path.withCString { unsafe open($0, flags | O_CLOEXEC, 0o666) }
    if descriptor < 0 { throw FileError.system(action, path) }
  }

  private init(adopting descriptor: Int32, as path: String) { (self.path, self.descriptor) = (path, descriptor) }

  deinit { close(descriptor) }

  /// Standard output, which stays open.
  package static let standardOutput = OpenFile(adopting: STDOUT_FILENO, as: "standard output")

  /// Opens an existing file to read.
  package static func reading(_ path: String) throws(FileError) -> OpenFile {
    // Without O_NONBLOCK, opening a pipe that has no writer would block. It has no effect on a file.
    let file = try OpenFile(path, "open", O_RDONLY | O_NONBLOCK)
    guard let found = other(try file.status()) else { return file }
    throw FileError(action: "read", path: path, reason: "it is not a file but \(found)")
  }

  /// Returns what something is that is no file, with its article; nil for a file.
  private static func other(_ status: stat) -> String? {
    let kind = status.st_mode & S_IFMT
    guard kind != S_IFREG else { return nil }
    return [S_IFDIR: "a folder", S_IFIFO: "a pipe", S_IFCHR: "a device", S_IFBLK: "a device"][kind] ?? "a socket"
  }

  /// Throws if there is something at `path` that is no file, so that none can be written there.
  package static func requireNoOther(_ path: String) throws(FileError) {
    var status = stat()
    guard unsafe stat(path, &status) == 0, let found = other(status) else { return }
    throw FileError(action: "write", path: path, reason: "it is not a file but \(found)")
  }

  /// Creates a file to write, which must not exist yet.
  package static func creating(_ path: String) throws(FileError) -> OpenFile {
    try OpenFile(path, "create", O_WRONLY | O_CREAT | O_EXCL)
  }

  /// Opens an existing file to overwrite parts of it.
  package static func changing(_ path: String) throws(FileError) -> OpenFile { try OpenFile(path, "open", O_WRONLY) }
  /// Returns the size of the file in bytes.
  package func size() throws(FileError) -> Int { Int(try status().st_size) }
  /// Returns what tells this file, on every host that has its file system, from any other and from an earlier state.
  func identity() throws(FileError) -> String {
    let status = try status()
    return "\(status.st_ino) \(status.st_size) \(status.st_ctim.tv_sec) \(status.st_ctim.tv_nsec)"
  }

  /// Fills `buffer` with the bytes that begin at `offset`. Throws if the file ends before.
  @unsafe package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(FileError) {
    try transfer(buffer.count, "read") { done throws(FileError) in
      let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let count = call { unsafe pread($0, rest.baseAddress, rest.count, off_t(offset + done)) }
      guard count == 0 else { return count }
      let reason = "it ends at byte \(offset + done), \(buffer.count - done) bytes short"
      throw FileError(action: "read", path: path, reason: reason)
    }
  }

  /// Makes a system call and keeps the file open until it returns: otherwise this object could be released, and the
  /// descriptor closed, as soon as the descriptor has been read.
  fileprivate func call<R>(_ body: (Int32) -> R) -> R {
    withExtendedLifetime(self) { body(descriptor) }
  }

  /// Repeats a system call, which returns how many bytes it has moved, until `count` bytes are.
  private func transfer(
    _ count: Int, _ action: String, _ call: (_ done: Int) throws(FileError) -> Int
  ) throws(FileError) {
    var done = 0
    while done < count {
      let moved = try call(done)
      if moved < 0, errno == EINTR { continue }
      if moved < 0, errno == EAGAIN {
        // Whoever shares standard output may have asked not to wait for it.
        var isReady = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = unsafe poll(&isReady, 1, -1)
        continue
      }
      if moved < 0 { throw FileError.system(action, path) }
      done += moved
      Progress.made()
    }
  }

  /// Returns `count` little-endian integers that begin at byte `offset`.
  package func read<I: FixedWidthInteger & BitwiseCopyable>(
    _ count: Int, of _: I.Type, at offset: Int
  ) throws(FileError) -> [I] {
    var values = [I](repeating: 0, count: count)
    try unsafe values.withUnsafeMutableBufferPointer { buffer throws(FileError) in
      try unsafe read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
    }
    return values
  }

  /// Appends bytes.
  @unsafe package func append(_ buffer: UnsafeRawBufferPointer) throws(FileError) {
    try transfer(buffer.count, "write") { done in
      let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[done...])
      return call { unsafe write($0, rest.baseAddress, rest.count) }
    }
  }

  /// Overwrites the bytes that begin at `offset`.
  @unsafe package func overwrite(_ buffer: UnsafeRawBufferPointer, at offset: Int) throws(FileError) {
    try transfer(buffer.count, "write") { done in
      let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[done...])
      return call { unsafe pwrite($0, rest.baseAddress, rest.count, off_t(offset + done)) }
    }
  }

  /// Overwrites the first bytes of the existing file `path`, and syncs it to the disk.
  static func rewrite(_ front: [UInt8], of path: String) throws(FileError) {
    let file = try changing(path)
    try unsafe front.withUnsafeBufferPointer { buffer throws(FileError) in
      try unsafe file.overwrite(UnsafeRawBufferPointer(buffer), at: 0)
    }
    try file.sync()
  }

  /// Changes the file's size to `bytes`. New bytes read as zeros.
  package func resize(_ bytes: Int) throws(FileError) {
    if call({ ftruncate($0, off_t(bytes)) }) != 0 { throw FileError.system("resize", path) }
  }

  /// Appends little-endian integers.
  package func append<I: FixedWidthInteger & BitwiseCopyable>(_ array: [I]) throws(FileError) {
    try unsafe array.withUnsafeBufferPointer { buffer throws(FileError) in
      try unsafe append(UnsafeRawBufferPointer(buffer))
    }
  }

  /// Locks the file, alone or shared with others, until it is closed or the process ends; an earlier lock of this
  /// object is given up. Does not wait, and returns false if another opening of the file prevents it.
  func lock(shared: Bool) throws(FileError) -> Bool {
    if call({ flock($0, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) }) == 0 { return true }
    if errno == EWOULDBLOCK { return false }
    throw FileError.system("lock", path)
  }

  /// Waits until the file's bytes are on the disk.
  package func sync() throws(FileError) { if call(fsync) != 0 { throw FileError.system("sync", path) } }
  /// Asks the system to drop the cached pages of a synced file; it may ignore the hint.
  func forget() { _ = call { posix_fadvise($0, 0, 0, POSIX_FADV_DONTNEED) } }

  private func status() throws(FileError) -> stat {
    var status = stat()
    if call({ unsafe fstat($0, &status) }) != 0 { throw FileError.system("examine", path) }
    return status
  }
}

extension OpenFile {
  static func contents(_ path: String) throws(FileError) -> [UInt8] {
    let file = try reading(path)
    return try file.read(try file.size(), of: UInt8.self, at: 0)
  }

  /// Replaces `bytes` by the `count` bytes at `offset`, and reuses its memory.
  func read(_ count: Int, at offset: Int, into bytes: inout [UInt8]) throws(FileError) {
    bytes.removeAll(keepingCapacity: true)
    var failure: FileError?
    bytes.append(addingCapacity: count) { output in
      unsafe output.withUnsafeMutableBufferPointer { buffer, initialized in
        let target = unsafe UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: count)
        do throws(FileError) {
          try unsafe read(into: target, at: offset)
          initialized = count
        } catch { failure = error }
      }
    }
    if let failure { throw failure }
  }

  func hash(_ range: Range<Int>, into hasher: inout SHA256) throws(FileError) {
    let block = 1 << 20
    var bytes: [UInt8] = []
    for at in stride(from: range.lowerBound, to: range.upperBound, by: block) {
      try read(min(block, range.upperBound - at), at: at, into: &bytes)
      hasher.update(bytes)
    }
  }

  /// Returns the SHA-256 of the file, or of all of it but the bytes in `gap`, in hexadecimal digits.
  package func sha256(without gap: Range<Int> = 0..<0) throws(FileError) -> String {
    var hasher = SHA256()
    try hash(0..<gap.lowerBound, into: &hasher)
    try hash(gap.upperBound..<max(try size(), gap.upperBound), into: &hasher)
    return hasher.finalize().hexadecimal
  }
}

/// A cache of at most `limit` open files, so that thousands of shards do not exhaust the process's file descriptors.
final class OpenFileCache: Sendable {
  private struct State {
    var open: [Int: OpenFile] = [:]
    /// The indices in the order in which their files were opened; the oldest is dropped first.
    var order: [Int] = []
  }

  private let limit = 128
  private let state = Mutex(State())

  /// Returns the open file with number `index`, whose path is `path`. A dropped file is closed after its last read.
  func file(_ index: Int, path: String) throws(FileError) -> OpenFile {
    if let file = state.withLock({ $0.open[index] }) { return file }
    let file = try OpenFile.reading(path)
    return state.withLock { state in
      if let other = state.open[index] { return other }
      if state.order.count >= limit { state.open[state.order.removeFirst()] = nil }
      state.open[index] = file
      state.order.append(index)
      return file
    }
  }
}

/// A file that several ranks try to lock, which shows how a file system treats locks.
public final class LockTrial {
  /// The system call that locks a file. HDF5 uses `flock` if the system has it.
  public enum Kind: String, CaseIterable, Sendable, Codable { case flock, fcntl }

  /// The result of a request for an exclusive lock.
  public enum Outcome: Sendable, Codable, Equatable {
    case granted
    case held
    case failed(String)
  }

  private let file: OpenFile
  /// Opens an existing file to read and write.
  public init(_ path: String) throws { file = try OpenFile(path, "open", O_RDWR) }

  /// Requests a lock on the whole file without waiting. A granted lock is held until this object is released.
  public func lock(_ kind: Kind) -> Outcome {
    let result: Int32
    switch kind {
    case .flock: result = file.call { flock($0, LOCK_EX | LOCK_NB) }
    case .fcntl:
      var whole = flock()
      (whole.l_type, whole.l_whence) = (Int16(F_WRLCK), Int16(SEEK_SET))
      result = file.call { unsafe fcntl($0, F_SETLK, &whole) }
    }
    if result == 0 { return .granted }
    let code = errno
    if [EWOULDBLOCK, EAGAIN, EACCES].contains(code) { return .held }
    return .failed(unsafe String(cString: strerror(code)))
  }
}

/// A failed operation on a file or folder.
public struct FileError: Error, ExitCoded, Hashable, CustomStringConvertible {
  /// The failed action: "open", "read", "write", "sync", …
  public let action: String
  public let path: String
  /// The system's error message, or what was found instead of what was expected.
  public let reason: String
  /// `inputOutput`, or `badData` for a file that can be read and is not what it should be.
  public var status = ExitStatus.inputOutput
  /// The system's number for the error; 0 if it is none of the system's.
  package var code: Int32 = 0
  public var description: String { "cannot \(action) \(path): \(reason)" }

  /// Returns the error that the last system call left in `errno`.
  static func system(_ action: String, _ path: String) -> FileError {
    let code = errno
    return FileError(action: action, path: path, reason: unsafe String(cString: strerror(code)), code: code)
  }
}
