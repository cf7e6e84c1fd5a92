/// A safetensors file that cannot be read as asked, or written.
public struct SafetensorsError: Error, ExitCoded, Hashable, CustomStringConvertible {
  public let path: String
  /// What was expected and what was found.
  public let reason: String
  /// 65 where the file's content is wrong, 74 where the system refused.
  public let status: ExitStatus

  public var description: String { "safetensors file \(path): \(reason)" }

  init(path: String, reason: String) {
    self.path = path
    self.reason = reason
    status = .badData
  }

  init(_ error: FileError, path: String) {
    self.path = path
    reason = "cannot \(error.action) it: \(error.reason)"
    status = error.status
  }

  /// Runs `body`; what the system refuses becomes an error of the file `path`.
  static func naming<R>(
    _ path: String, _ body: () throws(FileError) -> R
  ) throws(SafetensorsError) -> R {
    do throws(FileError) {
      return try body()
    } catch { throw SafetensorsError(error, path: path) }
  }
}
