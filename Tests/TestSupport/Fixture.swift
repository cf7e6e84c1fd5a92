public import Foundation

/// The files that tests read.
public enum Fixture {
  /// The golden set: `Tests/Fixtures/golden`, or the folder that `KINSHIP_GOLDEN` names.
  public static var golden: URL {
    if let folder = ProcessInfo.processInfo.environment["KINSHIP_GOLDEN"], !folder.isEmpty {
      return URL(filePath: folder, directoryHint: .isDirectory)
    }
    return URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Fixtures/golden", directoryHint: .isDirectory)
  }

  /// Another folder of fixtures, which `KINSHIP_GOLDEN` does not move.
  public static func folder(_ name: String) -> URL {
    URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Fixtures/\(name)", directoryHint: .isDirectory)
  }

  /// Returns the cases over which a test of the golden set runs.
  ///
  /// - Parameter kind: the name of the cases in the error.
  /// - Throws: `Incomplete` if there are no cases, because a test without cases would pass.
  public static func required<Cases: Collection>(_ cases: Cases, _ kind: String) throws -> Cases {
    guard !cases.isEmpty else { throw Incomplete(description: "the golden set \(golden.path) has no \(kind)") }
    return cases
  }

  /// An error in the golden set: something is missing or contradictory.
  public struct Incomplete: Error, CustomStringConvertible {
    public let description: String

    public init(description: String) { self.description = description }
  }
}
