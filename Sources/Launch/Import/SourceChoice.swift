import ArgumentParser
import Dist
import Foundation

/// The options of `kinship dataset import` that say how a source is read.
struct SourceChoice {
  /// The source's form; if nil, its contents decide.
  var format: ImportFormat?
  /// The folder of the images that a list names; if nil, the usual places are searched.
  var images: String?
  var splits: [String] = []
  var wnids: String?
  /// The keys of captions in JSON files beside images; if empty, captions are in text files or under `caption`.
  var captionKeys: [String] = []
  var keysByTar = false
  var columns = TableColumns()
  var separator: UInt8?
  var quoted = true
  /// The columns of numbers that conditions on samples name, and that no table of scores has.
  var valueColumns: [String] = []

  /// Opens one source, or tars that form one. An option that does not apply to its form is an error.
  func open(_ sources: [String], dataset: String) throws -> any ImportSource {
    if format == .webdataset || format == nil && TarChoice.isOne(sources) { return try openTars(sources, dataset) }
    guard let path = sources.first, sources.count == 1 else {
      let form = format?.rawValue ?? ""
      throw UserError(
        sources.dropFirst().first ?? "",
        "only tars can be imported several at once, not sources of the format \(form)", status: .usage)
    }
    return try open((path as NSString).standardizingPath, dataset: dataset)
  }

  private func openTars(_ sources: [String], _ dataset: String) throws -> TarSource {
    try check(.webdataset, sources.first ?? "", wordNetIDs: false)
    let tars = try TarChoice.paths(sources)
    if format == nil, TarChoice.isOne(sources), let other = tars.first(where: TarChoice.isTable) {
      throw UserError(
        other, "is not a tar by its name; only tars can be imported several at once or by a pattern ('*.tar')",
        status: .usage)
    }
    return try TarSource(
      tars, dataset: dataset, captionKeys: captionKeys, valueColumns: valueColumns, keysByTar: keysByTar)
  }

  /// Opens the one source at `path`.
  func open(_ path: String, dataset: String) throws -> any ImportSource {
    guard let isFolder = UserFiles.isFolder(path) else {
      throw UserError(path, "does not exist; expected a table, a list, a folder, a tar or a dataset")
    }
    if format == .dataset || format == nil && DatasetSource.isOne(path) {
      try check(.dataset, path, wordNetIDs: false)
      return try DatasetSource(path)
    }
    if let format, format.isFolder != isFolder {
      let (expected, found) = isFolder ? ("file", "folder") : ("folder", "file")
      throw UserError(path, "--format \(format.rawValue) expects a \(expected); this is a \(found)")
    }
    if isFolder { return try openFolder(path, dataset) }
    let head = try UserFiles.head(path)
    if let words = FileSignature.foreign(head) { throw UserError(path, words) }
    let known = try format ?? ImportFormat.of(head, path: path)
    if known == .webdataset { return try openTars([path], dataset) }
    guard let form = known, !form.isJSON else { return try openJSON(path, known, dataset) }
    try check(form, path, wordNetIDs: form.hasWordNetIDs)
    let images = images ?? usualImages(form, path)
    switch form {
    case .flickr:
      var list = ImageList(path, images: images, dataset: dataset)
      try FlickrCaptions.read(into: &list)
      return list
    case .imagenetSolution:
      return try ImageNetSolution.read(path, images: images, dataset: dataset, ids: try wnids.map(WordNetIDs.read))
    default:
      var columns = columns
      columns.values = valueColumns
      return try TableSource(path, dataset: dataset, columns: columns, separator: separator, quoted: quoted)
    }
  }

  private func openFolder(_ path: String, _ dataset: String) throws -> any ImportSource {
    if format == nil || format == .img2dataset {
      let fetched = try Img2Dataset(path)
      if fetched.isOne || format == .img2dataset {
        try check(.img2dataset, path, wordNetIDs: false)
        return try fetched.open(
          dataset: dataset, captionKeys: captionKeys, valueColumns: valueColumns, keysByTar: keysByTar)
      }
      if try !TarChoice.tars(in: path).isEmpty { return try openTars([path], dataset) }
    }
    try check(format ?? .folder, path, wordNetIDs: format != .imagenetV2 && format != .folder)
    return try FolderSource(
      path, dataset: dataset, format: format ?? (wnids == nil ? nil : .imagenet), ids: try wnids.map(WordNetIDs.read),
      captionKeys: captionKeys, valueColumns: valueColumns)
  }

  private func openJSON(_ path: String, _ known: ImportFormat?, _ dataset: String) throws -> ImageList {
    let document = try JSONRecord.document(path)
    let form = try known ?? ImportFormat.of(document, path: path)
    try check(form, path, wordNetIDs: false)
    var list = ImageList(path, images: images ?? usualImages(form, path, document), dataset: dataset)
    if form == .coco {
      try COCOCaptions.read(document, into: &list)
    } else {
      try KarpathySplits.read(document, splits: splits, into: &list)
    }
    return list
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
    guard let column = valueColumns.first, !form.hasValues else { return }
    throw UserError(
      path,
      """
      a source of the format \(form.rawValue) has no column “\(column)” for --keep; name a table with the columns key \
      and \(column) with --scores
      """, status: .usage)
  }

  private func usualImages(_ form: ImportFormat, _ list: String, _ document: JSONRecord? = nil) -> String {
    let folder = Publish.folder(of: list)
    return form.usualImages(list, document).map { folder + "/" + $0 }.first { UserFiles.isFolder($0) == true } ?? folder
  }
}

/// The form of a source: a folder, a table, tars, a dataset, or a list in a published form of the paper's datasets.
enum ImportFormat: String, CaseIterable, ExpressibleByArgument {
  /// Images with captions beside them, or sub-folders that are classes, numbered in the order of their bytes.
  case folder
  /// Sub-folders named by WordNet ids; labels are the ids' positions among ImageNet's 1,000.
  case imagenet
  /// Sub-folders named by numbers, which are the labels.
  case imagenetV2 = "imagenet-v2"
  /// `LOC_val_solution.csv`: ImageNet's validation images in one folder, and their classes in a table.
  case imagenetSolution = "imagenet-solution"
  /// CSV or TSV (`TableSource`); lists (`COCOCaptions`, `KarpathySplits`, `FlickrCaptions`); tars (`TarSource`).
  case table, coco, karpathy, flickr, webdataset
  /// A folder that img2dataset has written: tars, or folders of images with texts beside them.
  case img2dataset
  /// A dataset of this program, of which an import keeps some samples.
  case dataset

  static let words = allCases.map(\.rawValue).joined(separator: ", ")

  var isJSON: Bool { self == .coco || self == .karpathy }
  var isFolder: Bool { [.folder, .imagenet, .imagenetV2, .img2dataset].contains(self) }
  /// True if texts beside the images may be JSON.
  var hasCaptionKeys: Bool { [.folder, .webdataset, .img2dataset].contains(self) }
  /// True if the source may have numbers for its samples, in columns or in JSON files.
  var hasValues: Bool { hasCaptionKeys || self == .table }
  /// True if the source is a list of images that lie in a folder of their own.
  var hasImages: Bool { [.imagenetSolution, .coco, .karpathy, .flickr].contains(self) }
  var hasWordNetIDs: Bool { [.imagenet, .imagenetSolution].contains(self) }

  /// Returns where the public archives keep the images, relative to the list's folder; if nowhere else, they lie in it.
  func usualImages(_ list: String, _ document: JSONRecord? = nil) -> [String] {
    let isFlickr = self == .flickr || self == .karpathy && document?.value("dataset") == .string("flickr30k")
    if isFlickr { return ["flickr30k_images", "flickr30k-images"] }
    if self == .imagenetSolution { return ["ILSVRC/Data/CLS-LOC/val"] }
    let name = URL(filePath: list).deletingPathExtension().lastPathComponent
    return self == .coco && name.hasPrefix("captions_") ? ["../" + name.dropFirst("captions_".count)] : []
  }

  /// Recognises the file `path` by its first bytes, a tar without its extension too; returns nil for JSON.
  static func of(_ head: [UInt8], path: String) throws(UserError) -> ImportFormat? {
    if head.dropFirst(257).starts(with: "ustar".utf8) { return .webdataset }
    let text = String(decoding: head, as: UTF8.self).drop { $0.isWhitespace || $0 == "\u{FEFF}" }
    if path.lowercased().hasSuffix(".json") || text.first == "{" || text.first == "[" { return nil }
    let line = text.prefix { !$0.isNewline }
    let fields = line.split(separator: "\t", omittingEmptySubsequences: false)
    if line.hasPrefix("ImageId,PredictionString") { return .imagenetSolution }
    if line.hasPrefix("image_name|") { return .flickr }
    if fields.count == 2, fields[0].wholeMatch(of: /[^#]+#[0-9]+/) != nil { return .flickr }
    if fields.count == 2, fields[1].hasPrefix("http://") || fields[1].hasPrefix("https://") {
      throw UserError(
        path,
        """
        is a list of captions and URLs without images, like Conceptual Captions; download the images and import the \
        result: the folder that img2dataset writes (output_format webdataset or files), or a table with the columns \
        filepath and title
        """)
    }
    return .table
  }

  /// Recognises a JSON file by its keys.
  static func of(_ document: JSONRecord, path: String) throws(UserError) -> ImportFormat {
    if document.has("annotations") { return .coco }
    let first = (try? document.array("images"))?.first.flatMap { JSONRecord($0) }
    if let first, first.has("sentences") || first.has("split") { return .karpathy }
    throw UserError(
      path,
      """
      is JSON, but neither COCO's captions (images and annotations) nor Karpathy's splits (images with split and \
      sentences); its keys are \(document.keys)
      """)
  }
}
