import CHDF5
import CMPI

/// The installed libraries that this process runs on, as they name themselves.
public enum Libraries {
  /// The MPI library's own line; may be asked before MPI is started.
  public static var mpi: String {
    var buffer = [CChar](repeating: 0, count: Int(MPI_MAX_LIBRARY_VERSION_STRING) + 1)
    var length: Int32 = 0
    guard unsafe MPI_Get_library_version(&buffer, &length) == MPI_SUCCESS else { return "unknown" }
    let text = String(decoding: buffer.prefix(Int(length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    // "Open MPI v4.1.4, package: …, ident: …": what follows the first comma is of no use to a reader.
    return String(text.prefix { $0 != "," && $0 != "\0" && $0 != "\n" })
  }

  /// HDF5's release, `1.10.8`.
  public static var hdf5: String {
    var major: UInt32 = 0
    var minor: UInt32 = 0
    var release: UInt32 = 0
    guard unsafe H5get_libversion(&major, &minor, &release) >= 0 else { return "unknown" }
    return "\(major).\(minor).\(release)"
  }
}
