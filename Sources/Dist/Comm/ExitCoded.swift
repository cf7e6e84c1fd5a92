/// An error that knows with which code the program should end.
///
/// 64 usage, 65 data, 70 internal, 74 input or output, 75 run me again, 76 non-finite, 77 watchdog. An error that
/// does not say counts as internal.
public protocol ExitCoded: Error {
  var exitCode: Int32 { get }
  /// Whether all ranks throw it together: then the first speaks for all.
  var isShared: Bool { get }
}

extension ExitCoded {
  public var isShared: Bool { false }
}
