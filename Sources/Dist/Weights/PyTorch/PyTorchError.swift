/// A PyTorch checkpoint file that cannot be read as asked.
public struct PyTorchError: Error, ExitCoded, Hashable, CustomStringConvertible {
  public let path: String
  /// What was expected and what was found.
  public let reason: String
  /// 65 where the file's content is wrong, 74 where the system refused.
  public let exitCode: Int32

  public var description: String { "PyTorch file \(path): \(reason)" }

  init(path: String, reason: String) {
    self.path = path
    self.reason = reason
    exitCode = 65
  }

  init(_ error: FileError, path: String) {
    self.path = path
    reason = "cannot \(error.action) it: \(error.reason)"
    exitCode = error.exitCode
  }

  /// Runs `body`; what the system refuses becomes an error of the file `path`.
  static func naming<R>(_ path: String, _ body: () throws(FileError) -> R) throws(PyTorchError) -> R {
    do throws(FileError) {
      return try body()
    } catch { throw PyTorchError(error, path: path) }
  }
}
