internal import CHDF5
internal import Synchronization

/// The library as a whole: one lock round every call, and its error stack as one value.
///
/// HDF5 is not safe for threads as Debian builds it, and serializes every call where it is, so nothing is lost by a
/// lock of ours. Bulk bytes that must not wait for it are read past the library (`HDF5Dataset.fileOffset`).
enum HDF5Library {
  private static let lock = Mutex(false)

  /// Runs `body`, which makes raw calls, while no other thread is in the library. Not to be nested.
  static func locked<R>(_ body: () throws(HDF5Error) -> R) throws(HDF5Error) -> R {
    let outcome: Result<R, HDF5Error> = lock.withLock { started in
      if !started {
        // The program may end while a reader thread is inside the library: no tear-down under its feet. Every file
        // that we write is closed explicitly.
        H5dont_atexit()
        started = true
      }
      // Where the library is built for threads, this setting is each thread's own.
      H5Eset_auto2(hid_t(H5E_DEFAULT), nil, nil)
      do throws(HDF5Error) { return .success(try body()) } catch { return .failure(error) }
    }
    return try outcome.get()
  }

  /// The description of the innermost failure on the library's error stack. Inside `locked` only.
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
    // Of a system call that failed the library tells time, addresses and sizes; what counts is the system's own reason.
    if let match = text.firstMatch(of: /^(.*?): time = .*error message = '([^']*)'/.dotMatchesNewlines()) {
      text = "\(match.1): \(match.2)"
    }
    return text.isEmpty ? "the library gives no reason" : text
  }
}

/// What the raw calls are about: puts file and object into each error.
struct HDF5Place {
  let path: String
  var object: String?

  /// Passes on what a call returned, or throws the library's reason where it is negative.
  @discardableResult
  func check<I: SignedInteger>(_ value: I, _ call: String) throws(HDF5Error) -> I {
    guard value >= 0 else { throw refusal(call, HDF5Library.cause()) }
    return value
  }

  func refusal(_ call: String, _ cause: String) -> HDF5Error {
    HDF5Error(call: call, path: path, object: object, cause: cause)
  }
}
