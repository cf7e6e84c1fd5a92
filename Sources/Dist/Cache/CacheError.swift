/// A teacher cache that cannot be written or used, with everything that is wrong with it.
public struct CacheError: Error, ExitCoded, Hashable, CustomStringConvertible {
  public let folder: String
  /// One sentence each; never empty.
  public let problems: [String]
  /// What the user can do.
  public let advice: String?
  /// 65 where what is stored is wrong, 74 where it is not there or the system refused.
  public let exitCode: Int32

  init(_ folder: String, _ problems: [String], advice: String? = nil, exitCode: Int32 = 65) {
    self.folder = folder
    self.problems = problems
    self.advice = advice
    self.exitCode = exitCode
  }

  public var description: String {
    let list = problems.count == 1 ? " \(problems[0])" : problems.map { "\n  \($0)" }.joined()
    return "teacher cache \(folder):\(list)" + (advice.map { "; \($0)" } ?? "")
  }
}
