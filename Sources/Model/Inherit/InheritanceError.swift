/// Why a student cannot be cut from a source: every tensor that is in the way, with what to change.
public struct InheritanceError: Error, Equatable, CustomStringConvertible {
  public let problems: [String]

  public var description: String { problems.joined(separator: "\n  ") }
}
