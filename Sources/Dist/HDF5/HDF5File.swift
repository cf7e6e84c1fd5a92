internal import CHDF5
internal import Foundation
internal import Synchronization

/// An open HDF5 file. Close a written one explicitly: `close` throws errors that `deinit` must ignore.
public final class HDF5File: Sendable {
  public let path: String
  private let handle: Mutex<hid_t?>

  private init(path: String, id: hid_t) {
    self.path = path
    handle = Mutex(id)
  }

  deinit { try? close() }

  /// Opens `path` to read, unlocked by default, because locks fail on many network file systems. The library sees only
  /// a file that has the structure of ours or of h5py's, because altered headers can crash it (seen with 1.10.8 and one
  /// changed byte); any other is refused with the byte that differs.
  public static func open(_ path: String) throws(HDF5Error) -> HDF5File {
    try HDF5Structure.check(path)
    let place = HDF5Place(path: path)
    return try HDF5Library.locked { () throws(HDF5Error) in
      let access = try accessProperties(place)
      defer { H5Pclose(access) }
      return HDF5File(path: path, id: try place.check(unsafe H5Fopen(path, kinship_h5_read_only(), access), "H5Fopen"))
    }
  }

  /// Creates the file `path`, without times. Its first `userBlock` bytes, 0 or 512, are the caller's.
  public static func create(_ path: String, userBlock: Int = 0) throws(HDF5Error) -> HDF5File {
    let place = HDF5Place(path: path)
    return try HDF5Library.locked { () throws(HDF5Error) in
      let access = try accessProperties(place)
      defer { H5Pclose(access) }
      // Every release writes the same layouts, which are those that `HDF5Structure` accepts.
      try place.check(
        H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_V110), "H5Pset_libver_bounds")
      let creation = try place.check(H5Pcreate(kinship_h5_file_create()), "H5Pcreate")
      defer { H5Pclose(creation) }
      try place.check(H5Pset_obj_track_times(creation, false), "H5Pset_obj_track_times")
      try place.check(H5Pset_userblock(creation, hsize_t(userBlock)), "H5Pset_userblock")
      let id = unsafe H5Fcreate(path, kinship_h5_exclusive(), creation, access)
      return HDF5File(path: path, id: try place.check(id, "H5Fcreate"))
    }
  }

  private static func accessProperties(_ place: HDF5Place) throws(HDF5Error) -> hid_t {
    let access = try place.check(H5Pcreate(kinship_h5_file_access()), "H5Pcreate")
    // Closing the file also closes its open objects, so a failed call leaks nothing.
    try place.check(H5Pset_fclose_degree(access, H5F_CLOSE_STRONG), "H5Pset_fclose_degree")
    if ProcessInfo.processInfo.environment["HDF5_USE_FILE_LOCKING", default: ""].isEmpty {
      try place.check(kinship_h5_disable_locking(access), "H5Pset_file_locking")
    }
    return access
  }

  /// Closes the file; closing twice does nothing.
  public func close() throws(HDF5Error) {
    let place = HDF5Place(path: path)
    try HDF5Library.locked { () throws(HDF5Error) in
      guard let id = handle.withLock({ $0.take() }) else { return }
      try place.check(H5Fclose(id), "H5Fclose")
    }
  }

  /// Returns whether an object of this name exists.
  public func contains(_ name: String) throws(HDF5Error) -> Bool {
    try withID(object: name) { (id, place) throws(HDF5Error) in
      // The library fails unless every parent in the path exists.
      var path = ""
      for step in name.split(separator: "/") {
        path += "/" + step
        if try place.check(unsafe H5Lexists(id, path, kinship_h5_default()), "H5Lexists") == 0 { return false }
      }
      return true
    }
  }

  /// Returns the names of a group's members, in the order of their bytes.
  public func names(in group: String = "/") throws(HDF5Error) -> [String] {
    try withID(object: group) { (id, place) throws(HDF5Error) in
      var info = H5G_info_t()
      try place.check(unsafe H5Gget_info_by_name(id, group, &info, kinship_h5_default()), "H5Gget_info_by_name")
      return try unsafe place.names(info.nlinks, "H5Lget_name_by_idx") { index, buffer, size in
        unsafe H5Lget_name_by_idx(id, group, H5_INDEX_NAME, H5_ITER_INC, index, buffer, size, kinship_h5_default())
      }
    }
  }

  /// The attributes of the file's root.
  public var attributes: HDF5Attributes { HDF5Attributes(file: self, object: "/") }
  /// Returns the attributes of a group or data set.
  public func attributes(of object: String) -> HDF5Attributes { HDF5Attributes(file: self, object: object) }

  /// Runs raw calls on the open file inside `HDF5Library.locked`.
  func withID<R>(object: String?, _ body: (hid_t, HDF5Place) throws(HDF5Error) -> R) throws(HDF5Error) -> R {
    let place = HDF5Place(path: path, object: object)
    return try HDF5Library.locked { () throws(HDF5Error) in
      guard let id = handle.withLock({ $0 }) else { throw place.refusal("use", "the file is closed") }
      // Nothing below reads this object, whose `deinit` closes the file.
      defer { withExtendedLifetime(self) {} }
      return try body(id, place)
    }
  }
}

extension HDF5Place {
  /// Returns `count` names from a call for each index, which returns the name's length if the buffer is nil.
  func names(
    _ count: hsize_t, _ call: String, _ body: (hsize_t, UnsafeMutablePointer<CChar>?, Int) -> Int
  ) throws(HDF5Error) -> [String] {
    var names: [String] = []
    for index in 0..<count {
      let length = try check(body(index, nil, 0), call)
      var bytes = [CChar](repeating: 0, count: length + 1)
      let written = unsafe bytes.withUnsafeMutableBufferPointer { unsafe body(index, $0.baseAddress, $0.count) }
      try check(written, call)
      names.append(String(decoding: bytes.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }
    return names
  }
}
