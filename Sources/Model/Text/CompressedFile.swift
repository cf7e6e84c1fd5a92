import CZlib
import Foundation

/// Reads and writes small text files, plain or gzip-compressed. This is the only file that calls zlib.
enum CompressedFile {
  /// The maximum unpacked size in bytes: far above any vocabulary (the public one has 3 MB), far below a crafted file.
  private static let sizeLimit = 64 << 20

  /// Returns the unpacked contents of the file at `path`. A file without the signature of gzip is read as it is.
  static func read(_ path: String) throws(VocabularyError) -> [UInt8] {
    func failure(_ reason: String) -> VocabularyError { .unreadable(path: path, reason: reason) }
    var status = stat()
    guard unsafe stat(path, &status) == 0 else {
      throw failure(unsafe errno == ENOENT ? "there is no such file" : String(cString: strerror(errno)))
    }
    // Opening a pipe that nobody writes to would wait forever.
    let kind = status.st_mode & S_IFMT
    guard kind == S_IFREG else { throw failure(kind == S_IFDIR ? "it is a folder" : "it is not a file") }
    guard let file = unsafe gzopen(path, "rb") else { throw failure(unsafe String(cString: strerror(errno))) }
    defer { unsafe _ = gzclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = unsafe chunk.withUnsafeMutableBytes { unsafe gzread(file, $0.baseAddress, UInt32($0.count)) }
      var code: Int32 = Z_OK
      let message = unsafe String(cString: gzerror(file, &code)).trimmingPrefix("\(path): ")
      guard code != Z_ERRNO else { throw failure(String(message)) }
      // Only this code reveals that a file ends too early: the count is that of the bytes that were left.
      guard count >= 0, code == Z_OK || code == Z_STREAM_END else {
        throw .damaged(path: path, reason: "it is damaged (\(message)): copy it again")
      }
      if count == 0 { return bytes }
      bytes += chunk[..<Int(count)]
      guard bytes.count <= sizeLimit else {
        throw .damaged(path: path, reason: "it unpacks to more than \(sizeLimit >> 20) MiB")
      }
    }
  }

  /// Writes `bytes` to a new file beside `path` and renames it to `path`, compressed if that name ends in `.gz`.
  static func write(_ bytes: [UInt8], to path: String) throws(VocabularyError) {
    // The draft would take the name of a pipe or a device.
    var status = stat()
    guard unsafe stat(path, &status) != 0 || status.st_mode & S_IFMT == S_IFREG else {
      throw .unwritable(path: path, reason: status.st_mode & S_IFMT == S_IFDIR ? "it is a folder" : "it is not a file")
    }
    let draft = "\(path).\(getpid()).new"
    // Mode T writes without the gzip frame. The frame holds neither name nor time, so equal contents give equal files.
    guard let file = unsafe gzopen(draft, path.hasSuffix(".gz") ? "wb9" : "wbT") else {
      throw .unwritable(path: path, reason: unsafe String(cString: strerror(errno)))
    }
    let count = unsafe bytes.withUnsafeBytes { unsafe gzwrite(file, $0.baseAddress, UInt32($0.count)) }
    let closed = unsafe gzclose(file)
    guard Int(count) == bytes.count, closed == Z_OK, unsafe rename(draft, path) == 0 else {
      let reason = unsafe String(cString: strerror(errno))
      unsafe _ = unlink(draft)
      throw .unwritable(path: path, reason: reason)
    }
  }
}
