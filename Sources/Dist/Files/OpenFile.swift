internal import Foundation
package import Tensor

/// A file, by its descriptor: read at any place from several threads, or written front to back.
///
/// Files are read, not mapped: a file that shrinks under a map kills the process, a short read is an error. Numbers
/// pass as they lie in memory: every processor we build for is little-endian, as the files are.
package final class OpenFile: Sendable {
  package let path: String
  private let descriptor: Int32

  private init(_ path: String, _ action: String, _ flags: Int32) throws(FileError) {
    self.path = path
    descriptor = unsafe path.withCString { unsafe open($0, flags | O_CLOEXEC, 0o666) }
    if descriptor < 0 { throw FileError.system(action, path) }
  }

  deinit { close(descriptor) }

  /// An existing file, to read.
  package static func reading(_ path: String) throws(FileError) -> OpenFile {
    // Without O_NONBLOCK a pipe that nobody writes to would hold us here; a file does not care.
    let file = try OpenFile(path, "open", O_RDONLY | O_NONBLOCK)
    guard try file.status().st_mode & S_IFMT == S_IFREG else {
      throw FileError(action: "read", path: path, reason: "it is not a file")
    }
    return file
  }

  /// A file that must not exist yet, to write.
  package static func creating(_ path: String) throws(FileError) -> OpenFile {
    try OpenFile(path, "create", O_WRONLY | O_CREAT | O_EXCL)
  }

  /// An existing file, to change in places.
  package static func changing(_ path: String) throws(FileError) -> OpenFile {
    try OpenFile(path, "open", O_WRONLY)
  }

  /// Bytes of the file.
  package func size() throws(FileError) -> Int { Int(try status().st_size) }

  /// Fills `buffer` with the bytes that begin at `offset`; that there are fewer is an error.
  @unsafe package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(FileError) {
    var done = 0
    while done < buffer.count {
      let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let count = unsafe pread(descriptor, rest.baseAddress, rest.count, off_t(offset + done))
      if count < 0, errno == EINTR { continue }
      if count < 0 { throw FileError.system("read", path) }
      if count == 0 {
        let reason = "it ends at byte \(offset + done), \(buffer.count - done) bytes short"
        throw FileError(action: "read", path: path, reason: reason)
      }
      done += count
      Progress.made()
    }
  }

  /// `count` integers, little-endian, that begin at byte `offset`.
  package func read<I: FixedWidthInteger & BitwiseCopyable>(
    _ count: Int, of _: I.Type, at offset: Int
  ) throws(FileError) -> [I] {
    var values = [I](repeating: 0, count: count)
    try unsafe values.withUnsafeMutableBufferPointer { buffer throws(FileError) in
      try unsafe read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
    }
    return values
  }

  /// Writes bytes behind those written before.
  @unsafe package func append(_ buffer: UnsafeRawBufferPointer) throws(FileError) {
    var done = 0
    while done < buffer.count {
      let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[done...])
      let count = unsafe write(descriptor, rest.baseAddress, rest.count)
      if count < 0, errno == EINTR { continue }
      if count < 0 { throw FileError.system("write", path) }
      done += count
      Progress.made()
    }
  }

  /// Writes bytes at a place; what is there is replaced.
  @unsafe package func overwrite(_ buffer: UnsafeRawBufferPointer, at offset: Int) throws(FileError) {
    var done = 0
    while done < buffer.count {
      let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[done...])
      let count = unsafe pwrite(descriptor, rest.baseAddress, rest.count, off_t(offset + done))
      if count < 0, errno == EINTR { continue }
      if count < 0 { throw FileError.system("write", path) }
      done += count
    }
  }

  /// Makes the file so many bytes long; what is new reads as zeros.
  package func resize(_ bytes: Int) throws(FileError) {
    if ftruncate(descriptor, off_t(bytes)) != 0 { throw FileError.system("resize", path) }
  }

  /// Writes integers, little-endian, behind those written before.
  package func append<I: FixedWidthInteger & BitwiseCopyable>(_ array: [I]) throws(FileError) {
    var array = array
    try unsafe array.withUnsafeMutableBufferPointer { buffer throws(FileError) in
      try unsafe append(UnsafeRawBufferPointer(buffer))
    }
  }

  /// Writes the numbers of a tensor, as they lie in memory, behind those written before.
  package func append<S: Scalar>(_ tensor: Tensor<S>) throws(FileError) {
    try unsafe tensor.withUnsafeMutableBuffer { buffer throws(FileError) in
      try unsafe append(UnsafeRawBufferPointer(buffer))
    }
  }

  /// Waits until the file's bytes are on the disk.
  package func sync() throws(FileError) {
    if fsync(descriptor) != 0 { throw FileError.system("sync", path) }
  }

  private func status() throws(FileError) -> stat {
    var status = stat()
    if unsafe fstat(descriptor, &status) != 0 { throw FileError.system("examine", path) }
    return status
  }
}

extension FileError {
  /// The error that the last system call left in `errno`.
  static func system(_ action: String, _ path: String) -> FileError {
    let code = errno
    return FileError(action: action, path: path, reason: unsafe String(cString: strerror(code)))
  }
}
