import Dist
import Foundation

/// The folder that receives a corpus.
enum ImportFolder {
  /// Makes sure that `folder` can receive a corpus: it is new or empty, or `overwrite` allows that the files of an
  /// earlier corpus or import are removed. Files that no import writes are never touched.
  static func prepare(_ folder: String, overwrite: Bool) throws {
    let manager = FileManager.default
    var isFolder: ObjCBool = false
    guard unsafe manager.fileExists(atPath: folder, isDirectory: &isFolder) else { return }
    guard isFolder.boolValue else { throw ImportError(folder, "is a file; name a folder that is new or empty") }
    let names = try ImportError.naming(folder) { try manager.contentsOfDirectory(atPath: folder) }
    guard !names.isEmpty else { return }
    guard overwrite else {
      throw ImportError(folder, "is not empty; name another folder, or replace the corpus in it with --overwrite")
    }
    // The index first: without it nobody takes the rest for a corpus.
    let own = names.filter(isOurs).sorted { a, _ in a == CorpusIndex.fileName }
    for name in own { try ImportError.naming(folder) { try manager.removeItem(atPath: folder + "/" + name) } }
  }

  private static func isOurs(_ name: String) -> Bool {
    name == CorpusIndex.fileName || name == RejectionList.fileName
      || name.wholeMatch(of: /shard-[0-9]{5,}\.h5(\.partial)?/) != nil
  }
}
