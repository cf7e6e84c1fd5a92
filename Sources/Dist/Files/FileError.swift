/// Something that the operating system refused to do with a file or folder.
public struct FileError: Error, ExitCoded, Hashable, CustomStringConvertible {
  /// What was tried: "open", "read", "write", "sync", …
  public let action: String
  public let path: String
  /// The system's words, or what was found instead of what was expected.
  public let reason: String

  public var exitCode: Int32 { 74 }
  public var description: String { "cannot \(action) \(path): \(reason)" }
}
