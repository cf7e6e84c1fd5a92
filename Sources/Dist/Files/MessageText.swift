internal import Foundation

extension String {
  /// The text as a terminal may show it: control characters other than line ends and tabs, and the characters that
  /// change the direction of writing, are written as escapes such as `\u{1B}`. A file's name cannot command the
  /// terminal.
  package var printable: String {
    func isHidden(_ scalar: Unicode.Scalar) -> Bool {
      switch scalar.value {
      case 0x09, 0x0A: false
      case 0..<0x20, 0x7F..<0xA0, 0x2028...0x202E, 0x2066...0x2069: true
      default: false
      }
    }
    guard unicodeScalars.contains(where: isHidden) else { return self }
    return unicodeScalars.reduce(into: "") { text, scalar in
      if isHidden(scalar) {
        text += "\\u{\(String(scalar.value, radix: 16, uppercase: true))}"
      } else {
        text.unicodeScalars.append(scalar)
      }
    }
  }
}

extension Error {
  /// The status with which the error ends the program: its own, or what a decoder's or one of Foundation's means.
  package var exitStatus: ExitStatus {
    if let known = self as? any ExitCoded { return known.status }
    if self is DecodingError { return .badData }
    return (self as NSError).domain.hasPrefix("NS") ? .inputOutput : .internalError
  }

  /// The error in words: our own as it describes itself, one of Foundation's by the reason that it gives, and one of a
  /// JSON decoder by the key and what is wrong with it.
  package var explanation: String {
    func path(_ keys: [any CodingKey]) -> String {
      keys.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
    }
    switch self as any Error {
    case DecodingError.keyNotFound(let key, let context):
      return "the key \"\(path(context.codingPath + [key]))\" is missing"
    case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
      DecodingError.dataCorrupted(let context):
      let reason = (context.underlyingError?.explanation ?? context.debugDescription)
        .replacing("Dictionary<String, Any>", with: "an object").replacing("Array<Any>", with: "a list")
      return context.codingPath.isEmpty ? reason : "\(path(context.codingPath)): \(reason)"
    default:
      // Foundation's description of an error is a dump, and its short text leaves out where JSON is wrong.
      let error = self as NSError
      // The system's words name the cause, where Foundation's are those of a dialog: "The file doesn't exist."
      let cause = error.userInfo[NSUnderlyingErrorKey] as? any Error
      if let system = cause.map({ $0 as NSError }), system.domain == NSPOSIXErrorDomain {
        return unsafe String(cString: strerror(Int32(system.code)))
      }
      return error.userInfo["NSDebugDescription"] as? String ?? error.localizedFailureReason
        ?? cause?.explanation ?? (error.domain.hasPrefix("NS") ? error.localizedDescription : "\(self)")
    }
  }
}
