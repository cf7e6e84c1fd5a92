internal import Foundation

/// Changes files and folders so that a crash at any moment leaves either the old state or the new one.
package enum Publish {
  /// Writes the file `path` under a temporary name, syncs it to the disk, and renames it, which replaces an existing
  /// file. If `body` throws, the existing file stays and the temporary one is removed.
  ///
  /// - Parameter failure: converts errors of the system to the error type of `body`.
  package static func file<Failure: Error>(
    _ path: String, raising failure: (FileError) -> Failure, body: (OpenFile) throws(Failure) -> Void
  ) throws(Failure) {
    let temporary = "\(path).\(UUID().uuidString).partial"
    let file: OpenFile
    do throws(FileError) {
      file = try OpenFile.creating(temporary)
    } catch { throw failure(error) }
    do throws(Failure) {
      try body(file)
    } catch {
      remove(temporary)
      throw error
    }
    do throws(FileError) {
      try file.sync()
      try rename(temporary, to: path)
    } catch {
      remove(temporary)
      throw failure(error)
    }
  }

  /// Writes `bytes` as the file `path`.
  static func write(_ bytes: [UInt8], to path: String) throws(FileError) {
    try file(path, raising: { $0 }, body: { file throws(FileError) in try file.append(bytes) })
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
    var isFolder: ObjCBool = false
    let exists = unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
    if exists, !isFolder.boolValue {
      throw FileError(action: "create the folder", path: path, reason: "a file of this name exists")
    }
    if !exists { throw FileError.system("create the folder", path) }
  }

  /// Removes a file, or a folder with its contents. Does nothing if it does not exist.
  package static func removeAll(_ path: String) throws(FileError) {
    do {
      try FileManager.default.removeItem(atPath: path)
    } catch CocoaError.fileNoSuchFile {
      return
    } catch { throw FileError(action: "remove", path: path, reason: error.localizedDescription) }
  }

  /// Renames a file or folder, which replaces a file of that name, and syncs the change to the disk.
  package static func rename(_ path: String, to target: String) throws(FileError) {
    if unsafe Foundation.rename(path, target) != 0 { throw FileError.system("rename \(path) to", target) }
    try sync(folder: folder(of: target))
  }

  /// Makes `path` a symbolic link to `target`, which replaces an existing link.
  package static func link(_ path: String, to target: String) throws(FileError) {
    let temporary = "\(path).\(UUID().uuidString).partial"
    if unsafe symlink(target, temporary) != 0 { throw FileError.system("create", temporary) }
    do throws(FileError) {
      try rename(temporary, to: path)
    } catch {
      remove(temporary)
      throw error
    }
  }

  /// Syncs a folder's list of names to the disk.
  package static func sync(folder path: String) throws(FileError) { try sync(path, O_RDONLY | O_DIRECTORY) }

  /// Syncs a file that other code has written to the disk.
  package static func sync(file path: String) throws(FileError) { try sync(path, O_RDONLY) }

  /// Asks the system to drop the cached pages of a synced file, so that the next read comes from the disk.
  package static func forget(file path: String) throws(FileError) {
    let descriptor = unsafe path.withCString { unsafe open($0, O_RDONLY | O_CLOEXEC) }
    if descriptor < 0 { throw FileError.system("open", path) }
    defer { close(descriptor) }
    // The result does not matter: a file system may ignore the hint.
    _ = posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
  }

  private static func sync(_ path: String, _ flags: Int32) throws(FileError) {
    let descriptor = unsafe path.withCString { unsafe open($0, flags | O_CLOEXEC) }
    if descriptor < 0 { throw FileError.system("open", path) }
    defer { close(descriptor) }
    if fsync(descriptor) != 0 { throw FileError.system("sync", path) }
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
    available: (String) throws(FileError) -> Int = { path throws(FileError) in try Publish.available(at: path) }
  ) throws(FileError) {
    let free = try available(path)
    guard bytes <= free else {
      throw FileError(
        action: "write", path: target,
        reason: "\(bytes) bytes are needed, \(free) are available; free some space, or write to another file system")
    }
  }

  private static func remove(_ path: String) { _ = unsafe unlink(path) }

  /// Returns the folder that holds `path`.
  package static func folder(of path: String) -> String {
    let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    guard let slash = trimmed.lastIndex(of: "/") else { return "." }
    return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
  }
}

extension JSONEncoder {
  /// An encoder for JSON files that people read: indented, with sorted keys and plain slashes. Equal values give equal
  /// bytes.
  static var readable: JSONEncoder {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return encoder
  }
}
