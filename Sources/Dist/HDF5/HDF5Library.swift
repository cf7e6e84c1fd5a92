internal import CHDF5
internal import Synchronization

/// Access to the HDF5 library, which serves one thread at a time; bulk reads go past it (`HDF5Dataset.fileOffset`).
enum HDF5Library {
  private static let lock = Mutex(false)

  /// Runs `body`, which makes raw calls, while no other thread is in the library. Calls must not be nested.
  static func locked<R>(_ body: () throws(HDF5Error) -> R) throws(HDF5Error) -> R {
    let outcome: Result<R, HDF5Error> = lock.withLock { started in
      if !started {
        // At exit a reader thread may be inside, so the library must not tear itself down. We close all that we write.
        H5dont_atexit()
        started = true
      }
      // In a thread-safe build this setting belongs to each thread.
      H5Eset_auto2(hid_t(H5E_DEFAULT), nil, nil)
      do throws(HDF5Error) { return .success(try body()) } catch { return .failure(error) }
    }
    return try outcome.get()
  }

  /// Returns the description of the innermost failure on the library's error stack. Must be called inside `locked`.
  static func cause() -> String {
    var text = ""
    unsafe withUnsafeMutablePointer(to: &text) { target in
      _ = unsafe H5Ewalk2(
        hid_t(H5E_DEFAULT), H5E_WALK_UPWARD,
        { position, entry, target in
          guard position == 0, let entry = unsafe entry?.pointee, let target = unsafe target,
            let words = unsafe entry.desc
          else { return 0 }
          unsafe target.assumingMemoryBound(to: String.self).pointee = String(cString: words)
          return 0
        }, target)
    }
    // For a failed system call the library adds times, names, addresses and sizes; only the system's reason is of use.
    if let match = text.firstMatch(of: /^(.*?): (?:time|name) = .*error message = '([^']*)'/.dotMatchesNewlines()) {
      text = "\(match.1): \(match.2)"
    }
    return text.isEmpty ? "the library gives no reason" : text
  }
}

/// The file and object that raw calls work on, which every error names.
struct HDF5Place {
  let path: String
  var object: String?

  /// Returns the result of a call, or throws the library's reason if it is negative.
  @discardableResult
  func check<I: SignedInteger>(_ value: I, _ call: String) throws(HDF5Error) -> I {
    guard value >= 0 else { throw refusal(call, HDF5Library.cause()) }
    return value
  }

  func refusal(_ call: String, _ cause: String, status: ExitStatus = .inputOutput) -> HDF5Error {
    HDF5Error(call: call, path: path, object: object, cause: cause, status: status)
  }
}

/// A failed call of the HDF5 library, or a file with contents that we do not accept.
public struct HDF5Error: Error, ExitCoded, Hashable, CustomStringConvertible {
  /// The library's function that failed ("H5Fopen"), or our own operation ("read", "check").
  public let call: String
  public let path: String
  /// The data set, group or attribute, if the call has one, or the byte at which the structure is broken.
  public let object: String?
  /// The innermost entry of the library's error stack, or our own reason.
  public let cause: String
  /// `inputOutput`, or `badData` for a file that can be read and does not have the structure of ours.
  public var status = ExitStatus.inputOutput
  /// True if another process has locked the file.
  public var isLocked: Bool { cause.contains("unable to lock file") }
  public var description: String {
    let place = object.map { "\($0) of \(path)" } ?? path
    let advice = isLocked ? "; set HDF5_USE_FILE_LOCKING=FALSE, or stop the process that holds the lock" : ""
    return "HDF5: \(call) failed for \(place): \(cause)\(advice)"
  }
}

extension Libraries {
  /// The version of HDF5, such as `1.10.8`.
  public static var hdf5: String {
    var (major, minor, release): (UInt32, UInt32, UInt32) = (0, 0, 0)
    guard unsafe H5get_libversion(&major, &minor, &release) >= 0 else { return "unknown" }
    return "\(major).\(minor).\(release)"
  }
}
