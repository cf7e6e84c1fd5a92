import Dist
import Foundation

/// The picture files and texts that are to be embedded.
struct EmbeddingItems: Codable, Equatable {
  var pictures: [String] = []
  var texts: [String] = []

  /// The same items on every rank. Only the first one looks for them: standard input is its alone, and a folder may
  /// change while ranks look.
  static func agreed(
    over communicator: Communicator, _ find: () throws -> EmbeddingItems
  ) throws -> EmbeddingItems {
    var bytes = communicator.rank == 0 ? [UInt8](try JSONEncoder().encode(try find())) : []
    try communicator.broadcast(&bytes)
    return try JSONDecoder().decode(EmbeddingItems.self, from: Data(bytes))
  }

  /// The pictures that a name stands for: a file, the pictures in a folder and those below it, in the order of their
  /// paths' bytes, or all that a pattern with *, ? or [ ] matches, in that order.
  static func pictures(_ name: String) throws -> [String] {
    var isFolder: ObjCBool = false
    if unsafe FileManager.default.fileExists(atPath: name, isDirectory: &isFolder) {
      return isFolder.boolValue ? try pictures(inFolder: name) : [name]
    }
    // What is not there is reported as any picture that cannot be read.
    guard name.contains(where: { "*?[".contains($0) }) else { return [name] }
    let matches = matches(name)
    guard !matches.isEmpty else {
      throw EvaluationError.nothingAt(path: name, expected: "files that the pattern matches")
    }
    return try matches.flatMap { try isAFolder($0) ? pictures(inFolder: $0) : [$0] }
  }

  private static func isAFolder(_ path: String) -> Bool {
    var isFolder: ObjCBool = false
    return unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue
  }

  private static func pictures(inFolder folder: String) throws -> [String] {
    let pictures = try FolderSource.list(folder).pictures
    guard !pictures.isEmpty else {
      let endings = FolderSource.extensions.sorted().joined(separator: ", ")
      throw EvaluationError.nothingAt(path: folder, expected: "pictures (\(endings))")
    }
    return pictures.map { (folder.hasSuffix("/") ? folder : folder + "/") + $0 }
  }

  /// The paths that a shell would put in place of the pattern.
  private static func matches(_ pattern: String) -> [String] {
    var found = unsafe glob_t()
    defer { unsafe globfree(&found) }
    guard unsafe glob(pattern, 0, nil, &found) == 0 else { return [] }
    return (0..<Int(unsafe found.gl_pathc)).compactMap { index in
      unsafe found.gl_pathv[index].map { unsafe String(cString: $0) }
    }
  }
}
