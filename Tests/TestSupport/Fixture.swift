public import Foundation

/// Files that tests read.
public enum Fixture {
  /// The golden set: `Tests/Fixtures/golden`, or the folder that `KINSHIP_GOLDEN` names.
  public static var golden: URL {
    if let folder = ProcessInfo.processInfo.environment["KINSHIP_GOLDEN"], !folder.isEmpty {
      return URL(filePath: folder, directoryHint: .isDirectory)
    }
    return URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Fixtures/golden", directoryHint: .isDirectory)
  }

  /// Returns the cases that a test of the golden set runs over; throws where there are none, because a test of nothing
  /// would pass.
  ///
  /// - Parameter kind: what the set should have, as the error names it.
  public static func required<Cases: Collection>(_ cases: Cases, _ kind: String) throws -> Cases {
    guard !cases.isEmpty else { throw Incomplete(description: "the golden set \(golden.path) has no \(kind)") }
    return cases
  }

  /// A golden set that lacks something or contradicts itself.
  public struct Incomplete: Error, CustomStringConvertible {
    public let description: String

    public init(description: String) { self.description = description }
  }
}
