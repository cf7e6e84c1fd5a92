import Dist
import Foundation

/// A folder of images. Captions are the lines of the text file beside an image (`fox.png`, `fox.txt`), or strings of a
/// JSON file beside it, if keys are named or img2dataset has written it; extensions may be in upper case. If images lie
/// only in sub-folders and none has such a file, the sub-folders are classes: if they are named by numbers, these are
/// the labels; if by WordNet ids, the labels are the ids' positions among ImageNet's; any other names are numbered from
/// 0 in the order of their bytes. Numbers or ids beside other names are refused, because one odd folder would give all
/// others new labels.
struct FolderSource: ImportSource {
  static let extensions: Set = ["jpg", "jpeg", "png", "webp"]
  /// The extensions of images in formats that are not read.
  static let otherFormats: Set = [
    "apng", "avif", "bmp", "cr2", "dng", "eps", "exr", "gif", "heic", "heif", "ico", "jfif", "jp2", "jpe", "jxl", "jxr",
    "nef", "pbm", "pcx", "pgm", "pnm", "ppm", "psd", "qoi", "svg", "tga", "tif", "tiff",
  ]
  let folder: String
  private let classes: ClassFolders
  /// The images' paths relative to the folder, in the order of their bytes.
  private let paths: [String]
  /// Images in formats that are not read, which are left out.
  private let others: [String]
  /// The files beside images that are read (texts, and JSON if it may hold captions or numbers that are asked for) by
  /// the image's path without its extension, followed by their own in lower case.
  private let sidecars: [String: String]
  /// The keys of captions in JSON files; if empty, captions are in text files.
  private let captionKeys: [String]
  /// True if the JSON files may hold captions.
  private let readsJSON: Bool
  /// The keys of JSON files that conditions on samples name.
  private let valueColumns: [String]
  let advice: String
  var labels: [String] { classes.labels }
  var labeled: Bool { !classes.isEmpty }
  var count: Int { paths.count + others.count }

  /// Lists the folder, following links, and refuses two images of one key. `format` is the form of its sub-folders;
  /// without it their names decide. `ids` are ImageNet's WordNet ids, if its sub-folders are some of them.
  init(
    _ folder: String, dataset: String, format: ImportFormat? = nil, ids: WordNetIDs? = nil,
    captionKeys: [String] = [], valueColumns: [String] = []
  ) throws {
    let readsJSON = !captionKeys.isEmpty || format == .img2dataset
    (self.folder, self.captionKeys, self.valueColumns) = (folder, captionKeys, valueColumns)
    self.readsJSON = readsJSON
    let (paths, files) = try Self.list(folder)
    self.paths = paths
    others = files.filter { Self.otherFormats.contains(Self.ending($0)) }.sortedByBytes()
    guard !paths.isEmpty else {
      let found = files.min().map { ", but \(Figures.count(files.count, "other file")), such as \($0)" } ?? ""
      throw UserError(folder, "holds no image (\(Self.extensions.sorted().joined(separator: ", ")))\(found)")
    }
    let endings: Set<String> = readsJSON || !valueColumns.isEmpty ? ["txt", "json"] : ["txt"]
    let stems = Set(paths.map(Self.stem))
    var sidecars: [String: String] = [:]
    for file in files where endings.contains(Self.ending(file)) && stems.contains(Self.stem(file)) {
      let stem = Self.stem(file)
      guard let earlier = sidecars.updateValue(file, forKey: "\(stem).\(Self.ending(file))") else { continue }
      let both = [earlier, file].sorted().joined(separator: " and ")
      throw UserError(folder, "\(both) describe the same image \"\(stem)\"; remove or rename one")
    }
    self.sidecars = sidecars
    // If captions lie beside the images, folders are not classes.
    let hasTexts = sidecars.keys.contains { readsJSON || $0.hasSuffix(".txt") }
    let named = !hasTexts && format != .img2dataset || format == .imagenet || format == .imagenetV2
    classes = try ClassFolders(named ? paths : [], in: folder, format: format, ids: ids)
    let stray = classes.isEmpty && paths.contains { $0.contains("/") } ? paths.first { !$0.contains("/") } : nil
    let besides = files.contains { Self.ending($0) == "json" && stems.contains(Self.stem($0)) }
    advice =
      if besides, !readsJSON {
        "; if the .json files beside the images hold captions, name their key with --caption-keys"
      } else if let stray, !hasTexts {
        "; folders are classes only if every image lies in one, and \(stray) does not"
      } else { "" }
    if classes.isEmpty, !hasTexts, paths.allSatisfy(Self.isFlatImageNet) {
      throw UserError(folder, "holds ImageNet's validation images without classes; import LOC_val_solution.csv")
    }
    var ledger = KeyLedger(dataset: dataset)
    for (index, path) in paths.enumerated() {
      let key = SampleKey.from(path: path)
      guard let earlier = ledger.note(key, at: index) else { continue }
      throw UserError(folder, "\(paths[earlier]) and \(path) have the same key \"\(key)\"; rename one")
    }
  }

  /// Returns the images in a folder and those below it, following links, in the order of their bytes; and all files.
  static func list(_ folder: String) throws -> (images: [String], files: [String]) {
    var files: [String] = []
    try list(folder, "", ancestors: [], into: &files)
    let images = files.filter { extensions.contains(ending($0)) }
    return (images.sortedByBytes(), files)
  }

  private static func list(_ folder: String, _ prefix: String, ancestors: [String], into files: inout [String]) throws {
    let real = URL(filePath: folder).resolvingSymlinksInPath().path(percentEncoded: false)
    // A link back to a folder above would never end.
    guard !ancestors.contains(real) else { return }
    for name in try UserFiles.names(in: folder) where !name.hasPrefix(".") {
      switch UserFiles.isFolder(folder + "/" + name) {
      case true?: try list(folder + "/" + name, prefix + name + "/", ancestors: ancestors + [real], into: &files)
      // A link that leads to nothing, and a name that is not UTF-8, are left out later with their reason.
      case false?, nil: files.append(prefix + name)
      }
    }
  }

  private static func ending(_ path: String) -> String { (path as NSString).pathExtension.lowercased() }
  private static func stem(_ path: String) -> String { (path as NSString).deletingPathExtension }

  private static func isFlatImageNet(_ path: String) -> Bool {
    (path as NSString).lastPathComponent.wholeMatch(of: /ILSVRC2012_val_[0-9]{8}\.JPEG/) != nil
  }

  func entries() -> ImportReader {
    var paths = paths.makeIterator()
    var others = others.makeIterator()
    return {
      if let path = paths.next() { return entry(path) }
      return others.next().map {
        .leftOut($0, key: SampleKey.from(path: $0), "its format is not read; convert it to JPEG, PNG or WebP")
      }
    }
  }

  private func entry(_ path: String) -> ImportEntry {
    let key = SampleKey.from(path: path)
    do throws(ImportReason) {
      let json = try text(path, "json").map { SampleJSON($0) }
      let texts = SampleTexts(text: try text(path, "txt"), json: readsJSON ? json : nil)
      let captions = try texts.read(keys: captionKeys).captions
      return ImportEntry(
        ImportItem(
          place: path, path: folder + "/" + path, key: key, captions: captions, label: classes.label(of: path),
          values: SampleTexts(json: json).values(of: valueColumns)))
    } catch { return .leftOut(path, key: key, error.words) }
  }

  private func text(_ path: String, _ ending: String) throws(ImportReason) -> SampleTexts.File? {
    guard let name = sidecars["\(Self.stem(path)).\(ending)"] else { return nil }
    do throws(ImportReason) {
      return (name, try UserFiles.read(folder + "/" + name, limit: SampleTexts.longest))
    } catch { throw ImportReason("its captions, \(name): \(error.words)") }
  }
}

/// The classes that the sub-folders of a folder of images stand for.
struct ClassFolders {
  /// The classes' names by label; empty if folders are named by labels.
  private(set) var labels: [String] = []
  /// The number of folders that all images share above those of the classes (`sketch/n01440764/…` has one).
  private var depth = 0
  private let numbers: [String: Int]

  /// `ids` are ImageNet's, needed if the images are not of all its classes.
  init(_ paths: [String], in folder: String, format: ImportFormat?, ids: WordNetIDs?) throws(UserError) {
    let shared = Self.sharedFolders(paths)
    let names = Set(paths.compactMap { Self.name($0, depth: shared) })
    let nested = !paths.isEmpty && paths.allSatisfy { Self.name($0, depth: shared) != nil }
    let areIDs = nested && names.allSatisfy(WordNetIDs.isOne)
    let areNumbers = nested && !areIDs && names.allSatisfy { Self.number($0) != nil }
    if format == nil, !areIDs, !areNumbers { try Self.checkUnmixed(names, paths, in: folder, depth: shared) }

    switch format ?? (areIDs ? .imagenet : areNumbers ? .imagenetV2 : .folder) {
    case .imagenet:
      try Self.check(areIDs, folder, names, "WordNet ids (n01440764, …)")
      let ids = if let ids { ids } else { try Self.all(names, in: folder) }
      if let unknown = names.subtracting(ids.names).min() {
        throw UserError(folder, "the folder \(unknown) is none of the \(ids.names.count) classes that --wnids lists")
      }
      (depth, labels, numbers) = (shared, ids.names, ids.names.positions)
    case .imagenetV2:
      try Self.check(areNumbers, folder, names, "numbers (0, 1, …)")
      let values = names.compactMap { name in Self.number(name).map { (name, $0) } }
      guard Set(values.map(\.1)).count == values.count else {
        throw UserError(folder, "two of its folders are the same number, such as 7 and 07; rename one")
      }
      (depth, numbers) = (shared, Dictionary(uniqueKeysWithValues: values))
    default:
      if paths.allSatisfy({ $0.contains("/") }) {
        labels = Set(paths.compactMap { Self.name($0, depth: 0) }).sortedByBytes()
      }
      numbers = labels.positions
    }
  }

  var isEmpty: Bool { numbers.isEmpty }
  func label(of path: String) -> Int? { Self.name(path, depth: depth).flatMap { numbers[$0] } }

  private static func check(
    _ isSo: Bool, _ folder: String, _ names: Set<String>, _ expected: String
  ) throws(UserError) {
    guard !isSo else { return }
    let others = names.filter { !WordNetIDs.isOne($0) && number($0) == nil }.sorted().prefix(3)
    let found = others.isEmpty ? "others" : others.map { "\"\($0)\"" }.joined(separator: ", ")
    throw UserError(folder, "expected every image in a folder named by \(expected), found \(found)")
  }

  /// Throws if some images lie in folders named by labels, and others do not.
  private static func checkUnmixed(
    _ names: Set<String>, _ paths: [String], in source: String, depth: Int
  ) throws(UserError) {
    for (kind, some) in [
      ("whole numbers", names.filter { number($0) != nil }), ("WordNet ids", names.filter(WordNetIDs.isOne)),
    ] {
      let folder = names.subtracting(some).min().map { "the folder \($0)" }
      guard let one = some.min(), let odd = folder ?? paths.first(where: { name($0, depth: depth) == nil })
      else { continue }
      throw UserError(
        source,
        """
        has images in folders named by \(kind), such as \(one), and beside them \(odd), which would give the others \
        new labels; move one kind away, or number the folders in the order of their names with --format folder
        """)
    }
  }

  private static func all(_ names: Set<String>, in folder: String) throws(UserError) -> WordNetIDs {
    guard names.count == WordNetIDs.count else {
      throw UserError(
        folder,
        """
        has \(Figures.count(names.count, "folder")) named by WordNet ids, not ImageNet's \(WordNetIDs.count), among \
        which a label is a position; list them with --wnids, or number these folders 0 to \(names.count - 1) with \
        --format folder
        """)
    }
    return try WordNetIDs(Array(names), at: folder)
  }

  /// Returns the folder of a path below `depth` others, or nil if the path has none there.
  private static func name(_ path: String, depth: Int) -> String? {
    let steps = path.split(separator: "/", maxSplits: depth + 1)
    return steps.count == depth + 2 ? String(steps[depth]) : nil
  }

  /// Counts the folders, from the top, that all images share and that cannot be classes.
  private static func sharedFolders(_ paths: [String]) -> Int {
    var depth = 0
    while let name = paths.first.flatMap({ name($0, depth: depth) }), !WordNetIDs.isOne(name), !isNumber(name),
      paths.allSatisfy({ Self.name($0, depth: depth) == name })
    { depth += 1 }
    return depth
  }

  private static func isNumber(_ name: String) -> Bool { (1...9).contains(name.utf8.count) && name.utf8.areDigits }

  /// Returns the label that a folder's name is, as in a column of labels: `4.0` is 4.
  private static func number(_ name: String) -> Int? {
    let plain = SampleLabel.plain(name)
    return isNumber(plain) ? Int(plain) : nil
  }
}
