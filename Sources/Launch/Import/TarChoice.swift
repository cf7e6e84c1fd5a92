import Dist
import Foundation
import Settings

/// Which tars a source's names stand for.
enum TarChoice {
  /// Whether names on the command line are meant as tars: several, or one that ends so.
  static func isOne(_ sources: [String]) -> Bool {
    sources.count > 1 || sources.contains { $0.contains("::") || $0.lowercased().hasSuffix(".tar") }
  }

  /// The tars of names with braces (`cc3m-{00000..00331}.tar`), of several joined by two colons, and of folders, in
  /// this order. One that is missing is an error that names it.
  static func paths(_ sources: [String]) throws -> [String] {
    var paths: [String] = []
    for source in sources.flatMap(parts) {
      var isFolder: ObjCBool = false
      if unsafe FileManager.default.fileExists(atPath: source, isDirectory: &isFolder) {
        let tars = isFolder.boolValue ? try tars(in: source) : [source]
        guard !tars.isEmpty else { throw ImportError(source, "holds no .tar") }
        paths += tars
        continue
      }
      let names: [String]
      do throws(BraceExpansion.Problem) { names = try BraceExpansion.names(source) } catch {
        throw ImportError(source, error.reason, exitCode: 64)
      }
      let missing = names.filter { !FileManager.default.fileExists(atPath: $0) }
      guard missing.isEmpty else {
        let words = names == [source] ? "" : "; \(missing.count) of the \(names.count) that \(source) names are missing"
        throw ImportError(missing[0], "does not exist; expected a tar\(words)")
      }
      paths += names
    }
    return paths
  }

  private static func parts(_ source: String) -> [String] {
    // A file of this very name is meant as it is.
    FileManager.default.fileExists(atPath: source) ? [source] : source.components(separatedBy: "::")
  }

  /// The tars that lie in a folder, in the order of their names' bytes.
  static func tars(in folder: String) throws -> [String] {
    let names = try ImportError.naming(folder) { try FileManager.default.contentsOfDirectory(atPath: folder) }
    return names.filter { $0.hasSuffix(".tar") && !$0.hasPrefix(".") }
      .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }.map { folder + "/" + $0 }
  }
}
