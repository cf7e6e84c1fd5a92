internal import Foundation

/// Ways to change a folder so that a crash at any moment leaves either the old state or the new one.
package enum Publish {
  /// Writes the file `path` beside its place, brings it to the disk, and puts it there at once. What was there is
  /// replaced; when `body` throws it stays, and nothing is left behind.
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

  /// Makes a folder, and those above it that are missing; one that exists is fine.
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

  /// Removes a file, or a folder with all that is in it; one that does not exist is fine.
  package static func removeAll(_ path: String) throws(FileError) {
    do {
      try FileManager.default.removeItem(atPath: path)
    } catch CocoaError.fileNoSuchFile {
      return
    } catch { throw FileError(action: "remove", path: path, reason: error.localizedDescription) }
  }

  /// Gives a file or folder another name, replacing a file of that name, and brings the change to the disk.
  package static func rename(_ path: String, to target: String) throws(FileError) {
    if unsafe Foundation.rename(path, target) != 0 { throw FileError.system("rename \(path) to", target) }
    try sync(folder: folder(of: target))
  }

  /// Makes `path` a symbolic link to `target`, replacing the link that was there.
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

  /// Brings a folder's list of names to the disk.
  package static func sync(folder path: String) throws(FileError) { try sync(path, O_RDONLY | O_DIRECTORY) }

  /// Brings to the disk a file that other code has written.
  package static func sync(file path: String) throws(FileError) { try sync(path, O_RDONLY) }

  /// Asks the system to drop what it holds of a file in memory, once that is on the disk: the next to read it sees what
  /// the disk has.
  package static func forget(file path: String) throws(FileError) {
    let descriptor = unsafe path.withCString { unsafe open($0, O_RDONLY | O_CLOEXEC) }
    if descriptor < 0 { throw FileError.system("open", path) }
    defer { close(descriptor) }
    // A wish: a file system that does not know it loses nothing.
    _ = posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
  }

  private static func sync(_ path: String, _ flags: Int32) throws(FileError) {
    let descriptor = unsafe path.withCString { unsafe open($0, flags | O_CLOEXEC) }
    if descriptor < 0 { throw FileError.system("open", path) }
    defer { close(descriptor) }
    if fsync(descriptor) != 0 { throw FileError.system("sync", path) }
  }

  /// How many bytes a user without special rights may still write to the file system of `path`.
  package static func available(at path: String) throws(FileError) -> Int {
    var status = statvfs()
    if unsafe statvfs(path, &status) != 0 { throw FileError.system("examine the file system of", path) }
    return Int(clamping: UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).0)
  }

  /// Refuses to write `bytes` for `target` where the file system of the folder `path` has less room.
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

  /// The folder that holds `path`.
  package static func folder(of path: String) -> String {
    let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    guard let slash = trimmed.lastIndex(of: "/") else { return "." }
    return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
  }
}
