import Dist
import Foundation

/// A folder of pictures.
///
/// Captions are the lines of the text file beside a picture (`fox.png`, `fox.txt`). Where pictures lie only in
/// sub-folders and none has such a file, the sub-folders are classes: named by numbers, these are the labels; named by
/// WordNet ids, their positions among ImageNet's; any other names are numbered 0, 1, … in the order of their bytes.
struct FolderSource: ImportSource {
  static let extensions: Set = ["jpg", "jpeg", "png", "webp"]

  let folder: String
  private let classes: ClassFolders
  /// The pictures' paths from the folder, in the order of their bytes.
  private let paths: [String]
  private let sidecars: Set<String>
  var labels: [String] { classes.labels }
  var labeled: Bool { !classes.isEmpty }
  var count: Int { paths.count }

  /// Lists the folder, following links, and refuses two pictures of one key.
  ///
  /// - Parameters:
  ///   - format: what its sub-folders are; nil: by their names.
  ///   - ids: ImageNet's WordNet ids, where its sub-folders are some of them.
  init(_ folder: String, corpus: String, format: ImportFormat? = nil, ids: WordNetIDs? = nil) throws {
    self.folder = folder
    var files: [String] = []
    try Self.list(folder, "", ancestors: [], into: &files)
    paths = files.filter { Self.extensions.contains(($0 as NSString).pathExtension.lowercased()) }
      .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    guard !paths.isEmpty else {
      throw ImportError(folder, "holds no picture (\(Self.extensions.sorted().joined(separator: ", ")))")
    }
    let texts = Set(files.filter { $0.hasSuffix(".txt") })
    sidecars = Set(paths.filter { texts.contains(Self.sidecar($0)) })
    // With captions beside the pictures, folders are only folders.
    let named = sidecars.isEmpty || format == .imagenet || format == .imagenetV2
    classes = try ClassFolders(named ? paths : [], in: folder, format: format, ids: ids)
    if classes.isEmpty, sidecars.isEmpty, paths.allSatisfy(Self.isFlatImageNet) {
      throw ImportError(folder, "holds ImageNet's validation pictures without classes; import LOC_val_solution.csv")
    }
    var ledger = KeyLedger(corpus: corpus)
    for (index, path) in paths.enumerated() {
      guard let earlier = ledger.note(SampleKey.from(path: path), at: index) else { continue }
      throw ImportError(
        folder, "\(paths[earlier]) and \(path) have the same key \"\(SampleKey.from(path: path))\"; rename one")
    }
  }

  private static func list(_ folder: String, _ prefix: String, ancestors: [String], into files: inout [String]) throws {
    let real = URL(filePath: folder).resolvingSymlinksInPath().path(percentEncoded: false)
    // A link back to where we come from would never end.
    guard !ancestors.contains(real) else { return }
    let names = try ImportError.naming(folder) { try FileManager.default.contentsOfDirectory(atPath: folder) }
    for name in names where !name.hasPrefix(".") {
      var isFolder: ObjCBool = false
      let path = folder + "/" + name
      guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else { continue }
      if isFolder.boolValue {
        try list(path, prefix + name + "/", ancestors: ancestors + [real], into: &files)
      } else {
        files.append(prefix + name)
      }
    }
  }

  private static func sidecar(_ path: String) -> String { (path as NSString).deletingPathExtension + ".txt" }

  private static func isFlatImageNet(_ path: String) -> Bool {
    (path as NSString).lastPathComponent.wholeMatch(of: /ILSVRC2012_val_[0-9]{8}\.JPEG/) != nil
  }

  func entries() throws -> any ImportReader { Reader(source: self) }

  private struct Reader: ImportReader {
    let source: FolderSource
    var at = 0

    mutating func next() throws -> ImportEntry? {
      guard at < source.paths.count else { return nil }
      let path = source.paths[at]
      at += 1
      var item = ImportItem(
        place: path, path: source.folder + "/" + path, key: SampleKey.from(path: path), captions: [],
        label: source.classes.label(of: path))
      if source.sidecars.contains(path) {
        let name = FolderSource.sidecar(path)
        let file = source.folder + "/" + name
        switch RegularFile.read(file, limit: DelimitedReader.longestField) {
        case .failure(let reason):
          return .rejected(Rejection(place: path, key: item.key, reason: "its captions, \(name): \(reason.words)"))
        case .success(let bytes):
          guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
            return .rejected(Rejection(place: path, key: item.key, reason: "its captions, \(name), are not UTF-8 text"))
          }
          item.captions = text.split(whereSeparator: \.isNewline)
            .map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
        }
      }
      guard !item.captions.isEmpty || item.label != nil else {
        return .rejected(Rejection(place: path, key: item.key, reason: "has neither a caption nor a label"))
      }
      return .item(item)
    }
  }
}
