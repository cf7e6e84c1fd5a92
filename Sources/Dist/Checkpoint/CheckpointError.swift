/// A checkpoint that cannot be written or used, with everything that is wrong with it.
public struct CheckpointError: Error, ExitCoded, Hashable, CustomStringConvertible {
  public let folder: String
  /// One sentence each; never empty.
  public let problems: [String]
  /// 65 where what is stored is wrong, 74 where the system refused.
  public let status: ExitStatus

  init(_ folder: String, _ problems: [String], status: ExitStatus = .badData) {
    self.folder = folder
    self.problems = problems
    self.status = status
  }

  public var description: String {
    problems.count == 1
      ? "checkpoint \(folder): \(problems[0])"
      : "checkpoint \(folder):" + problems.map { "\n  \($0)" }.joined()
  }

  /// Runs `body`; what the system or the HDF5 library refuses becomes an error of this checkpoint.
  static func naming<R>(_ folder: String, _ body: () throws -> R) throws(CheckpointError) -> R {
    do {
      return try body()
    } catch let error as CheckpointError {
      throw error
    } catch { throw CheckpointError(folder, ["\(error)"], status: .inputOutput) }
  }
}
