import Foundation

/// Events of files and folders, by inotify.
struct FileEvents: ~Copyable {
  private let descriptor: Int32

  init() throws(SystemError) {
    descriptor = inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK))
    if descriptor < 0 { throw SystemError("inotify_init1") }
  }

  deinit { close(descriptor) }

  /// From here on, whatever is done to `path` is an event; where it does not exist, what is done to the nearest folder
  /// above it.
  borrowing func follow(_ path: String) throws(SystemError) {
    // Something may be made below a folder before the folder is watched.
    var watched: String?
    while true {
      let place = Self.nearest(path)
      if place == watched { return }
      let mask = IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVE | IN_DELETE_SELF | IN_MOVE_SELF
      let watch = unsafe inotify_add_watch(descriptor, place, UInt32(mask))
      if watch < 0, errno != ENOENT { throw SystemError("inotify_add_watch of \(place)") }
      watched = watch < 0 ? nil : place
    }
  }

  /// Returns `path`, or the nearest folder above it that exists.
  private static func nearest(_ path: String) -> String {
    var path = path
    while !FileManager.default.fileExists(atPath: path) {
      guard let slash = path.dropLast().lastIndex(of: "/") else { return "." }
      path = slash == path.startIndex ? "/" : String(path[..<slash])
    }
    return path
  }

  /// Returns after an event, or when a process has ended.
  borrowing func wait(or end: borrowing ProcessEnd) throws(SystemError) {
    try ready(descriptor, or: end.descriptor)
    // Which events there were does not matter: everything is looked at again.
    var buffer = [UInt8](repeating: 0, count: 1 << 14)
    while unsafe read(descriptor, &buffer, buffer.count) > 0 {}
  }
}
