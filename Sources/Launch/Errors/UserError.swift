import Dist
import Foundation

/// A mistake in what the user gave to the program. The message names the path, option or key, says what is wrong with
/// it, and tells what to change.
struct UserError: ExitCoded, CustomStringConvertible {
  /// The path, option or key; nil if the reason names it.
  let path: String?
  let reason: String
  let status: ExitStatus
  let isShared: Bool

  init(_ path: String?, _ reason: String, status: ExitStatus = .badData, isShared: Bool = false) {
    (self.path, self.reason, self.status, self.isShared) = (path, reason, status, isShared)
  }

  var description: String { path.map { "\($0): \(reason)" } ?? reason }
}

extension Error {
  /// The reason that the system gives for a failed call of Foundation's, or the error itself as text.
  var systemReason: String { (self as NSError).localizedFailureReason ?? "\(self)" }
}
