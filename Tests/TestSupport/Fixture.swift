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
}
