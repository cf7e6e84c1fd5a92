import Dist
import Foundation

/// Reads files and folders that a user or a user's table names, where anything may be found.
enum UserFiles {
  /// Returns true for a folder, false for anything else, and nil if there is nothing at `path`.
  static func isFolder(_ path: String) -> Bool? {
    var isFolder: ObjCBool = false
    let exists = unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
    return exists ? isFolder.boolValue : nil
  }

  static func names(in folder: String) throws(UserError) -> [String] {
    guard unsafe access(folder, R_OK | X_OK) == 0 else {
      throw UserError(folder, "cannot be read: \(unsafe String(cString: strerror(errno)))", status: .inputOutput)
    }
    return try naming(folder) { try FileManager.default.contentsOfDirectory(atPath: folder) }
  }

  /// Returns true for a name with *, ? or [ ] that no file or folder has.
  static func isPattern(_ name: String) -> Bool { name.contains { "*?[".contains($0) } && isFolder(name) == nil }

  /// Returns the files and folders that a name stands for: those that match it if it is a pattern, in the order of
  /// their bytes, or else the one of this name; none if there is nothing.
  static func matches(_ name: String) -> [String] {
    guard isPattern(name) else { return isFolder(name) == nil ? [] : [name] }
    var found = unsafe glob_t()
    defer { unsafe globfree(&found) }
    guard unsafe glob(name, 0, nil, &found) == 0 else { return [] }
    return (0..<Int(unsafe found.gl_pathc))
      .compactMap { index in unsafe found.gl_pathv[index].map { unsafe String(cString: $0) } }.sortedByBytes()
  }

  /// Returns the first bytes of a file, at most 64 KiB.
  static func head(_ path: String) throws(FileError) -> [UInt8] {
    let file = try OpenFile.reading(path)
    return try file.read(min(file.size(), 1 << 16), of: UInt8.self, at: 0)
  }

  /// Runs a call of Foundation's on `path`, which an error then names.
  static func naming<R>(_ path: String, _ body: () throws -> R) throws(UserError) -> R {
    do { return try body() } catch { throw UserError(path, error.explanation, status: .inputOutput) }
  }

  /// Returns the bytes of a file. Throws a reason if the file is not a regular one (reading a pipe could wait forever),
  /// is empty, or has more than `limit` bytes.
  static func read(_ path: String, limit: Int) throws(ImportReason) -> [UInt8] {
    var status = stat()
    guard unsafe stat(path, &status) == 0 else {
      let isNamed = errno != ENOENT || !path.unicodeScalars.contains("\u{FFFD}")
      guard isNamed else { throw ImportReason("has a name that is not UTF-8; rename it") }
      throw ImportReason("cannot be read: \(unsafe String(cString: strerror(errno)))")
    }
    guard status.st_mode & S_IFMT == S_IFREG else { throw ImportReason("is not a file") }
    guard status.st_size > 0 else { throw ImportReason("is empty") }
    guard status.st_size <= limit else { throw ImportReason("has \(status.st_size) bytes, more than \(limit)") }
    do throws(FileError) {
      return try OpenFile.reading(path).read(Int(status.st_size), of: UInt8.self, at: 0)
    } catch { throw ImportReason("cannot be read: \(error.reason)") }
  }
}
