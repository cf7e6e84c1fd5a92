import Dist
import Foundation

/// What is to be imported, and how it is to be read.
struct SourceChoice {
  /// Nil: by the source's contents.
  var format: ImportFormat?
  /// The folder of the pictures that a list names.
  var images: String?
  /// Of Karpathy's splits.
  var splits: [String] = []
  /// The list of ImageNet's WordNet ids.
  var wnids: String?
  /// The keys of captions in JSON files beside pictures; empty: captions are in text files, or under `caption`.
  var captionKeys: [String] = []
  /// Whether the name of a sample's tar stands before its key.
  var keysByTar = false
  var columns = TableColumns()
  var separator: UInt8?
  var quoted = true

  /// Opens one source, or tars that make one; an option that does not belong to its form is an error.
  func open(_ sources: [String], corpus: String) throws -> any ImportSource {
    let areTars = format == .webdataset || format == nil && TarChoice.isOne(sources)
    if areTars { return try openTars(sources, corpus) }
    guard let path = sources.first, sources.count == 1 else {
      throw ImportError(
        sources.dropFirst().first ?? "", "only of tars several are imported at once, not of \(format?.rawValue ?? "")",
        exitCode: 64)
    }
    return try open((path as NSString).standardizingPath, corpus: corpus)
  }

  private func openTars(_ sources: [String], _ corpus: String) throws -> TarSource {
    try check(.webdataset, sources.first ?? "", wordNetIDs: false)
    return try TarSource(
      try TarChoice.paths(sources), corpus: corpus, captionKeys: captionKeys, keysByTar: keysByTar)
  }

  /// Opens the one source at `path`.
  func open(_ path: String, corpus: String) throws -> any ImportSource {
    var isFolder: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw ImportError(path, "does not exist; expected a table, a list, a folder or a tar")
    }
    if let format, format.isFolder != isFolder.boolValue {
      let found = isFolder.boolValue ? "a folder" : "a file"
      throw ImportError(
        path, "--format \(format.rawValue) wants a \(format.isFolder ? "folder" : "file"); this is \(found)")
    }
    if isFolder.boolValue { return try openFolder(path, corpus) }
    let known = try format ?? ImportFormat.of(file: path)
    guard let form = known, !form.isJSON else { return try openJSON(path, known, corpus) }
    try check(form, path, wordNetIDs: form.hasWordNetIDs)
    let images = images ?? usualImages(form, path)
    return switch form {
    case .flickr: try FlickrCaptions.read(path, images: images, corpus: corpus)
    case .imagenetSolution:
      try ImageNetSolution.read(path, images: images, corpus: corpus, ids: try wnids.map(WordNetIDs.read))
    default: try TableSource(path, corpus: corpus, columns: columns, separator: separator, quoted: quoted)
    }
  }

  private func openFolder(_ path: String, _ corpus: String) throws -> any ImportSource {
    if format == nil || format == .img2dataset {
      let fetched = try Img2Dataset(path)
      if fetched.isOne || format == .img2dataset {
        try check(.img2dataset, path, wordNetIDs: false)
        return try fetched.open(corpus: corpus, captionKeys: captionKeys, keysByTar: keysByTar)
      }
      if try !TarChoice.tars(in: path).isEmpty { return try openTars([path], corpus) }
    }
    try check(format ?? .folder, path, wordNetIDs: format != .imagenetV2 && format != .folder)
    return try FolderSource(
      path, corpus: corpus, format: format ?? (wnids == nil ? nil : .imagenet), ids: try wnids.map(WordNetIDs.read),
      captionKeys: captionKeys)
  }

  private func openJSON(_ path: String, _ known: ImportFormat?, _ corpus: String) throws -> PictureList {
    let document = try JSONRecord.document(path)
    let form = try known ?? ImportFormat.of(document, path: path)
    try check(form, path, wordNetIDs: false)
    let images = images ?? usualImages(form, path, document)
    return form == .coco
      ? try COCOCaptions.read(document, of: path, images: images, corpus: corpus)
      : try KarpathySplits.read(document, of: path, splits: splits, images: images, corpus: corpus)
  }

  private func check(_ form: ImportFormat, _ path: String, wordNetIDs: Bool) throws(ImportError) {
    for (option, isGiven, belongs) in [
      ("--images", images != nil, form.hasImages), ("--split", !splits.isEmpty, form == .karpathy),
      ("--wnids", wnids != nil, wordNetIDs), ("--caption-keys", !captionKeys.isEmpty, form.hasCaptionKeys),
      ("--keys-by-tar", keysByTar, form == .webdataset || form == .img2dataset),
    ] where isGiven && !belongs {
      throw ImportError(
        path, "\(option) has no meaning for the format \(form.rawValue); leave it out, or name another with --format",
        exitCode: 64)
    }
  }

  private func usualImages(_ form: ImportFormat, _ list: String, _ document: JSONRecord? = nil) -> String {
    let folder = Publish.folder(of: list)
    return form.usualImages(list, document).map { folder + "/" + $0 }.first { path in
      var isFolder: ObjCBool = false
      return unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue
    } ?? folder
  }
}
