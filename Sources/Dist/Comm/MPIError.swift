internal import CMPI

/// A call into MPI that failed, in MPI's own words, and which rank on which host met it.
public struct MPIError: Error, ExitCoded, CustomStringConvertible {
  /// The function of MPI that returned the code.
  public let call: String
  /// What MPI returned.
  public let code: Int32
  /// MPI's text for the code.
  public let text: String
  /// The rank that met the failure; -1 before ranks were known.
  public let rank: Int
  public let host: String
  /// The collective that was running, with its number; empty outside of one.
  public let collective: String

  public var exitCode: Int32 { 70 }

  public var description: String {
    let place = collective.isEmpty ? "" : " in collective \(collective)"
    return "\(call) failed\(place) on rank \(rank), host \(host): code \(code), \(text)"
  }
}

/// Who makes a call, so that a failure can say so.
struct MPICaller: Sendable {
  var rank = -1
  var host = "unknown"

  /// The one place where a code becomes an error.
  func check(
    _ call: StaticString, _ code: Int32, in collective: @autoclosure () -> String = ""
  ) throws(MPIError) {
    guard code != MPI_SUCCESS else { return }
    throw MPIError(
      call: "\(call)", code: code, text: Self.text(code), rank: rank, host: host, collective: collective())
  }

  private static func text(_ code: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: Int(MPI_MAX_ERROR_STRING) + 1)
    var length: Int32 = 0
    guard unsafe MPI_Error_string(code, &buffer, &length) == MPI_SUCCESS else { return "no text for this code" }
    return String(decoding: buffer.prefix(Int(length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
