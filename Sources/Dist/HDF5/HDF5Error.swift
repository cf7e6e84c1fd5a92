/// A refusal by the HDF5 library, or by us of what an HDF5 file holds.
public struct HDF5Error: Error, ExitCoded, Hashable, CustomStringConvertible {
  /// The library's function that failed ("H5Fopen"), or what we were about to do ("read").
  public let call: String
  /// The file.
  public let path: String
  /// The data set, group or attribute, where there is one.
  public let object: String?
  /// The innermost entry of the library's error stack, or our own reason.
  public let cause: String

  public init(call: String, path: String, object: String? = nil, cause: String) {
    self.call = call
    self.path = path
    self.object = object
    self.cause = cause
  }

  /// Whether another process has locked the file.
  public var isLocked: Bool { cause.contains("unable to lock file") }

  public var exitCode: Int32 { 74 }
  public var description: String {
    let place = object.map { "\($0) of \(path)" } ?? path
    let advice = isLocked ? "; set HDF5_USE_FILE_LOCKING=FALSE, or end who holds it" : ""
    return "HDF5: \(call) failed for \(place): \(cause)\(advice)"
  }
}
