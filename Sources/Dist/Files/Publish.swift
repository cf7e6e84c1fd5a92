internal import Foundation

/// Changes files and folders so that a crash at any moment leaves either the old state or the new one.
package enum Publish {
  /// Writes the file `path` under a temporary name, syncs and renames it. After a failure an existing file stays.
  /// Throws for a pipe, a device or a folder, which the new name would take from whoever uses it.
  package static func file(_ path: String, body: (OpenFile) throws(FileError) -> Void) throws(FileError) {
    try OpenFile.requireNoOther(path)
    let temporary = temporaryPath(for: path)
    let file = try OpenFile.creating(temporary)
    do throws(FileError) {
      try body(file)
      try file.sync()
      try rename(temporary, to: path)
    } catch {
      remove(temporary)
      throw error
    }
  }

  /// Does the same for a file that `body` creates itself under the temporary name, writes and closes. Returns what
  /// `body` returns.
  package static func creating<R>(_ path: String, body: (_ temporary: String) throws -> R) throws -> R {
    try OpenFile.requireNoOther(path)
    let temporary = temporaryPath(for: path)
    do {
      let made = try body(temporary)
      try sync(file: temporary)
      try rename(temporary, to: path)
      return made
    } catch {
      remove(temporary)
      throw error
    }
  }

  static func write(_ bytes: [UInt8], to path: String) throws(FileError) {
    try file(path) { file throws(FileError) in try file.append(bytes) }
  }

  /// Writes a value as the JSON file `path`, in the form of `JSONEncoder.readable`.
  static func write(json value: some Encodable, to path: String) throws {
    try write([UInt8](JSONEncoder.readable.encode(value)) + [UInt8(ascii: "\n")], to: path)
  }

  /// Creates a folder and its missing parents. Does nothing if the folder exists.
  package static func makeFolder(_ path: String) throws(FileError) {
    if unsafe mkdir(path, 0o777) == 0 { return }
    if errno == ENOENT, folder(of: path) != path {
      try makeFolder(folder(of: path))
      if unsafe mkdir(path, 0o777) == 0 { return }
    }
    // What asks for the folder below changes errno.
    let error = FileError.system("create the folder", path)
    var isFolder: ObjCBool = false
    let exists = unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
    guard !exists || !isFolder.boolValue else { return }
    guard error.code == EEXIST else { throw error }
    let reason = exists ? "a file of this name exists" : "a link of this name leads to nothing"
    throw FileError(action: "create the folder", path: path, reason: reason)
  }

  /// Removes a file, or a folder with its contents. Does nothing if it does not exist.
  package static func removeAll(_ path: String) throws(FileError) {
    do { try FileManager.default.removeItem(atPath: path) } catch {
      if case CocoaError.fileNoSuchFile = error { return }
      throw FileError(action: "remove", path: path, reason: error.explanation)
    }
  }

  /// Renames a file or folder, which replaces a file of that name, and syncs the change to the disk.
  package static func rename(_ path: String, to target: String) throws(FileError) {
    if unsafe Foundation.rename(path, target) != 0 { throw FileError.system("rename \(path) to", target) }
    try sync(folder: folder(of: target))
  }

  /// Makes `path` a symbolic link to `target`, which replaces an existing link.
  package static func link(_ path: String, to target: String) throws(FileError) {
    let temporary = temporaryPath(for: path)
    if unsafe symlink(target, temporary) != 0 { throw FileError.system("create", temporary) }
    do throws(FileError) { try rename(temporary, to: path) } catch {
      remove(temporary)
      throw error
    }
  }

  /// Syncs a folder's list of names to the disk.
  package static func sync(folder path: String) throws(FileError) {
    try OpenFile(path, "open", O_RDONLY | O_DIRECTORY).sync()
  }

  /// Syncs a file that other code has written to the disk.
  package static func sync(file path: String) throws(FileError) { try OpenFile(path, "open", O_RDONLY).sync() }
  /// Asks the system to drop the cached pages of a synced file, so that the next read comes from the disk.
  static func forget(file path: String) throws(FileError) { try OpenFile(path, "open", O_RDONLY).forget() }

  /// Returns the names of the files and folders in the folder `path`.
  static func names(in path: String) throws(FileError) -> [String] {
    do { return try FileManager.default.contentsOfDirectory(atPath: path) } catch {
      throw FileError(action: "read", path: path, reason: error.explanation)
    }
  }

  /// Returns the free bytes on the file system of `path`, without the blocks reserved for root.
  package static func available(at path: String) throws(FileError) -> Int {
    var status = statvfs()
    if unsafe statvfs(path, &status) != 0 { throw FileError.system("examine the file system of", path) }
    return Int(clamping: UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).0)
  }

  /// Throws if the file system of the folder `path` has less than `bytes` free. The error names the file `target`.
  package static func requireSpace(
    _ bytes: Int, at path: String, for target: String,
    available: (String) throws(FileError) -> Int = Publish.available(at:)
  ) throws(FileError) {
    let free = try available(path)
    guard bytes <= free else {
      throw FileError(
        action: "write", path: target,
        reason: "\(bytes) bytes are needed, \(free) are available; free some space, or write to another file system")
    }
  }

  private static func remove(_ path: String) { _ = unsafe unlink(path) }

  /// Returns a new path beside `path`, under which a file or folder is made until it is complete. No other process has
  /// it, and its ending tells whoever cleans up that it is unfinished.
  static func temporaryPath(for path: String) -> String { "\(path).\(UUID().uuidString).partial" }

  /// Returns the folder that holds `path`.
  package static func folder(of path: String) -> String {
    let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    guard let slash = trimmed.lastIndex(of: "/") else { return "." }
    return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
  }
}

extension JSONEncoder {
  /// An encoder for JSON files that people read, with sorted keys. Equal values give equal bytes.
  static var readable: JSONEncoder {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return encoder
  }
}

extension BinaryInteger {
  /// Returns the number in digits, with leading zeros if it has fewer than `width`.
  func digits(_ width: Int, radix: Int = 10) -> String {
    let text = String(self, radix: radix)
    return String(repeating: "0", count: max(width - text.count, 0)) + text
  }
}
