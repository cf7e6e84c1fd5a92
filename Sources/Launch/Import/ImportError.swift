import Dist
import Foundation

/// Why an import stops: what the user gave cannot be made a corpus.
struct ImportError: ExitCoded, Equatable, CustomStringConvertible {
  /// The table, folder or option in question.
  let place: String
  let reason: String

  let exitCode: Int32

  init(_ place: String, _ reason: String, exitCode: Int32 = 65) {
    self.place = place
    self.reason = reason
    self.exitCode = exitCode
  }

  var description: String { "\(place): \(reason)" }

  /// Runs a call of Foundation's on the folder or file `place`.
  static func naming<R>(_ place: String, _ body: () throws -> R) throws(ImportError) -> R {
    do { return try body() } catch { throw ImportError(place, error.localizedDescription, exitCode: 74) }
  }
}
