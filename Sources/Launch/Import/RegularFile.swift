import Dist
import Foundation

/// Reads files that a user's table names: anything may stand there.
enum RegularFile {
  struct Reason: Error, Equatable {
    let words: String
  }

  /// The bytes of a file; refused: what is no plain file (a pipe would wait for ever), empty files, and more than
  /// `limit` bytes.
  static func read(_ path: String, limit: Int) -> Result<[UInt8], Reason> {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else {
      return .failure(Reason(words: "cannot be read: \(unsafe String(cString: strerror(errno)))"))
    }
    guard status.st_mode & S_IFMT == S_IFREG else { return .failure(Reason(words: "is not a file")) }
    guard status.st_size > 0 else { return .failure(Reason(words: "is empty")) }
    guard status.st_size <= limit else {
      return .failure(Reason(words: "has \(status.st_size) bytes, more than \(limit)"))
    }
    do throws(FileError) {
      let file = try OpenFile.reading(path)
      return .success(try file.read(Int(status.st_size), of: UInt8.self, at: 0))
    } catch { return .failure(Reason(words: "cannot be read: \(error.reason)")) }
  }
}
