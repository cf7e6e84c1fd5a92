/// An HDF5 file of weights that cannot be read as asked, or written.
public struct HDF5WeightsError: Error, ExitCoded, Hashable, CustomStringConvertible {
  public let path: String
  /// What was expected and what was found.
  public let reason: String
  /// 65 where the file's content is wrong, 74 where the system refused.
  public let exitCode: Int32

  public var description: String { "HDF5 weights \(path): \(reason)" }

  init(path: String, reason: String) {
    self.path = path
    self.reason = reason
    exitCode = 65
  }

  /// Runs `body`; what the system refuses becomes an error of the file `path`.
  static func naming<R>(_ path: String, _ body: () throws(FileError) -> R) throws(HDF5WeightsError) -> R {
    do throws(FileError) {
      return try body()
    } catch {
      throw HDF5WeightsError(path: path, reason: "cannot \(error.action) it: \(error.reason)", exitCode: error.exitCode)
    }
  }

  private init(path: String, reason: String, exitCode: Int32) {
    self.path = path
    self.reason = reason
    self.exitCode = exitCode
  }
}
