import Foundation

/// CLIP's public vocabulary file, which must be fetched because it is not part of the project.
public enum PublicVocabulary {
  public struct Missing: Error, CustomStringConvertible {
    public let description: String
  }

  /// Returns the path in KINSHIP_VOCABULARY, or the one to which `scripts/fetch-vocabulary` writes.
  ///
  /// - Throws: `Missing` if there is no such file.
  public static func path() throws -> String {
    let environment = ProcessInfo.processInfo.environment
    let (named, data) = (environment["KINSHIP_VOCABULARY"] ?? "", environment["KINSHIP_DATA"] ?? "")
    let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let folder = data.isEmpty ? package.appending(path: "data") : URL(filePath: data)
    let path = named.isEmpty ? folder.appending(path: "vocabulary/bpe_simple_vocab_16e6.txt.gz").path : named
    guard FileManager.default.fileExists(atPath: path) else {
      throw Missing(
        description: "CLIP's vocabulary is not at \(path): run scripts/fetch-vocabulary, or set KINSHIP_VOCABULARY")
    }
    return path
  }
}
