import Dist
import Foundation

/// A folder of pictures.
///
/// Captions are the lines of the text file beside a picture (`fox.png`, `fox.txt`), or strings of a JSON file beside
/// it, where keys are named or img2dataset has written it. Where pictures lie only in sub-folders and none has such a
/// file, the sub-folders are classes: named by numbers, these are the labels; named by WordNet ids, their positions
/// among ImageNet's; any other names are numbered 0, 1, … in the order of their bytes.
struct FolderSource: ImportSource {
  static let extensions: Set = ["jpg", "jpeg", "png", "webp"]

  let folder: String
  private let classes: ClassFolders
  /// The pictures' paths from the folder, in the order of their bytes.
  private let paths: [String]
  /// The files beside pictures that are read: texts, and JSON where captions may be in it.
  private let sidecars: Set<String>
  private let captionKeys: [String]
  var labels: [String] { classes.labels }
  var labeled: Bool { !classes.isEmpty }
  var count: Int { paths.count }

  /// Lists the folder, following links, and refuses two pictures of one key.
  ///
  /// - Parameters:
  ///   - format: what its sub-folders are; nil: by their names.
  ///   - ids: ImageNet's WordNet ids, where its sub-folders are some of them.
  ///   - captionKeys: the keys of captions in JSON files; empty: captions are in text files.
  init(
    _ folder: String, corpus: String, format: ImportFormat? = nil, ids: WordNetIDs? = nil, captionKeys: [String] = []
  ) throws {
    self.folder = folder
    self.captionKeys = captionKeys
    let (paths, files) = try Self.list(folder)
    self.paths = paths
    guard !paths.isEmpty else {
      throw ImportError(folder, "holds no picture (\(Self.extensions.sorted().joined(separator: ", ")))")
    }
    let endings = captionKeys.isEmpty && format != .img2dataset ? [".txt"] : [".txt", ".json"]
    let texts = Set(files.filter { file in endings.contains { file.hasSuffix($0) } })
    sidecars = Set(paths.flatMap { path in endings.map { Self.sidecar(path, $0) } }.filter(texts.contains))
    // With captions beside the pictures, folders are only folders.
    let named = sidecars.isEmpty && format != .img2dataset || format == .imagenet || format == .imagenetV2
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

  /// The pictures in a folder and those below it, following links, in the order of their bytes; and all files.
  static func list(_ folder: String) throws -> (pictures: [String], files: [String]) {
    var files: [String] = []
    try list(folder, "", ancestors: [], into: &files)
    let pictures = files.filter { extensions.contains(($0 as NSString).pathExtension.lowercased()) }
    return (pictures.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }, files)
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

  private static func sidecar(_ path: String, _ ending: String) -> String {
    (path as NSString).deletingPathExtension + ending
  }

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
      let key = SampleKey.from(path: path)
      func rejected(_ reason: String) -> ImportEntry {
        .rejected(Rejection(place: path, key: key, reason: reason))
      }
      do throws(SampleTexts.Reason) {
        let texts = SampleTexts(text: try text(path, ".txt"), json: try text(path, ".json"))
        let captions = try texts.read(keys: source.captionKeys).captions
        let label = source.classes.label(of: path)
        guard !captions.isEmpty || label != nil else { return rejected("has neither a caption nor a label") }
        return .item(
          ImportItem(place: path, path: source.folder + "/" + path, key: key, captions: captions, label: label))
      } catch { return rejected(error.words) }
    }

    /// The file beside a picture, if it is there and to be read.
    private func text(_ path: String, _ ending: String) throws(SampleTexts.Reason) -> SampleTexts.File? {
      let name = FolderSource.sidecar(path, ending)
      guard source.sidecars.contains(name) else { return nil }
      switch RegularFile.read(source.folder + "/" + name, limit: SampleTexts.longest) {
      case .failure(let reason): throw SampleTexts.Reason(words: "its captions, \(name): \(reason.words)")
      case .success(let bytes): return SampleTexts.File(name: name, bytes: bytes)
      }
    }
  }
}
