import Dist
import Foundation

/// The options that say how a source is read.
struct SourceChoice {
  /// The source's form; if nil, its contents decide.
  var format: ImportFormat?
  /// The folder of the images that a list names; if nil, the usual places are searched.
  var images: String?
  /// The splits to import from a file of Karpathy's splits.
  var splits: [String] = []
  /// The list of ImageNet's WordNet ids.
  var wnids: String?
  /// The keys of captions in JSON files beside images; if empty, captions are in text files or under `caption`.
  var captionKeys: [String] = []
  /// Puts the name of a sample's tar before its key.
  var keysByTar = false
  var columns = TableColumns()
  var separator: UInt8?
  var quoted = true

  /// Opens one source, or tars that form one. An option that does not apply to its form is an error.
  func open(_ sources: [String], dataset: String) throws -> any ImportSource {
    let areTars = format == .webdataset || format == nil && TarChoice.isOne(sources)
    if areTars { return try openTars(sources, dataset) }
    guard let path = sources.first, sources.count == 1 else {
      throw UserError(
        sources.dropFirst().first ?? "",
        "only tars can be imported several at once, not sources of the format \(format?.rawValue ?? "")",
        status: .usage)
    }
    return try open((path as NSString).standardizingPath, dataset: dataset)
  }

  private func openTars(_ sources: [String], _ dataset: String) throws -> TarSource {
    try check(.webdataset, sources.first ?? "", wordNetIDs: false)
    return try TarSource(
      try TarChoice.paths(sources), dataset: dataset, captionKeys: captionKeys, keysByTar: keysByTar)
  }

  /// Opens the one source at `path`.
  func open(_ path: String, dataset: String) throws -> any ImportSource {
    guard let isFolder = UserFiles.isFolder(path) else {
      throw UserError(path, "does not exist; expected a table, a list, a folder or a tar")
    }
    if let format, format.isFolder != isFolder {
      let (expected, found) = isFolder ? ("file", "folder") : ("folder", "file")
      throw UserError(path, "--format \(format.rawValue) expects a \(expected); this is a \(found)")
    }
    if isFolder { return try openFolder(path, dataset) }
    let known = try format ?? ImportFormat.of(file: path)
    guard let form = known, !form.isJSON else { return try openJSON(path, known, dataset) }
    try check(form, path, wordNetIDs: form.hasWordNetIDs)
    let images = images ?? usualImages(form, path)
    return switch form {
    case .flickr: try FlickrCaptions.read(path, images: images, dataset: dataset)
    case .imagenetSolution:
      try ImageNetSolution.read(path, images: images, dataset: dataset, ids: try wnids.map(WordNetIDs.read))
    default: try TableSource(path, dataset: dataset, columns: columns, separator: separator, quoted: quoted)
    }
  }

  private func openFolder(_ path: String, _ dataset: String) throws -> any ImportSource {
    if format == nil || format == .img2dataset {
      let fetched = try Img2Dataset(path)
      if fetched.isOne || format == .img2dataset {
        try check(.img2dataset, path, wordNetIDs: false)
        return try fetched.open(dataset: dataset, captionKeys: captionKeys, keysByTar: keysByTar)
      }
      if try !TarChoice.tars(in: path).isEmpty { return try openTars([path], dataset) }
    }
    try check(format ?? .folder, path, wordNetIDs: format != .imagenetV2 && format != .folder)
    return try FolderSource(
      path, dataset: dataset, format: format ?? (wnids == nil ? nil : .imagenet), ids: try wnids.map(WordNetIDs.read),
      captionKeys: captionKeys)
  }

  private func openJSON(_ path: String, _ known: ImportFormat?, _ dataset: String) throws -> ImageList {
    let document = try JSONRecord.document(path)
    let form = try known ?? ImportFormat.of(document, path: path)
    try check(form, path, wordNetIDs: false)
    let images = images ?? usualImages(form, path, document)
    return form == .coco
      ? try COCOCaptions.read(document, of: path, images: images, dataset: dataset)
      : try KarpathySplits.read(document, of: path, splits: splits, images: images, dataset: dataset)
  }

  private func check(_ form: ImportFormat, _ path: String, wordNetIDs: Bool) throws(UserError) {
    for (option, isGiven, belongs) in [
      ("--images", images != nil, form.hasImages), ("--split", !splits.isEmpty, form == .karpathy),
      ("--wnids", wnids != nil, wordNetIDs), ("--caption-keys", !captionKeys.isEmpty, form.hasCaptionKeys),
      ("--keys-by-tar", keysByTar, form == .webdataset || form == .img2dataset),
    ] where isGiven && !belongs {
      throw UserError(
        path, "\(option) does not apply to the format \(form.rawValue); leave it out, or name another with --format",
        status: .usage)
    }
  }

  private func usualImages(_ form: ImportFormat, _ list: String, _ document: JSONRecord? = nil) -> String {
    let folder = Publish.folder(of: list)
    return form.usualImages(list, document).map { folder + "/" + $0 }.first { UserFiles.isFolder($0) == true } ?? folder
  }
}
