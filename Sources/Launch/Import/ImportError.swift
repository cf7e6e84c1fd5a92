import Dist

/// Why an import stops: what the user gave cannot be made a corpus.
struct ImportError: ExitCoded, Equatable, CustomStringConvertible {
  /// The table, folder or option in question.
  let place: String
  let reason: String

  init(_ place: String, _ reason: String) {
    self.place = place
    self.reason = reason
  }

  var exitCode: Int32 { 65 }
  var description: String { "\(place): \(reason)" }
}
