import ArgumentParser
import Dist
import Foundation

/// The form of a source: a folder, a table, tars, or a list in a published form of the paper's datasets.
enum ImportFormat: String, CaseIterable, ExpressibleByArgument {
  /// Images with captions beside them, or sub-folders that are classes, numbered in the order of their bytes.
  case folder
  /// Sub-folders named by WordNet ids; labels are the ids' positions among ImageNet's 1,000.
  case imagenet
  /// Sub-folders named by numbers, which are the labels.
  case imagenetV2 = "imagenet-v2"
  /// `LOC_val_solution.csv`: ImageNet's validation images in one folder, and their classes in a table.
  case imagenetSolution = "imagenet-solution"
  /// CSV or TSV with a header and one image a line.
  case table
  /// COCO's caption annotations: JSON with `images` and `annotations`.
  case coco
  /// Karpathy's splits of COCO and Flickr: JSON with `images`, each with its split and sentences.
  case karpathy
  /// Flickr30k's own lists: `results_20130124.token`, or `results.csv` with bars between the fields.
  case flickr
  /// Tars of samples: neighbours whose names are equal up to the first dot (`0017.jpg`, `0017.txt`).
  case webdataset
  /// A folder that img2dataset has written: tars, or folders of images with texts beside them.
  case img2dataset

  static let words = allCases.map(\.rawValue).joined(separator: ", ")

  var isJSON: Bool { self == .coco || self == .karpathy }
  /// True if the source is a folder.
  var isFolder: Bool { [.folder, .imagenet, .imagenetV2, .img2dataset].contains(self) }
  /// True if texts beside the images may be JSON.
  var hasCaptionKeys: Bool { [.folder, .webdataset, .img2dataset].contains(self) }
  /// True if the source is a list of images that lie in a folder of their own.
  var hasImages: Bool { [.imagenetSolution, .coco, .karpathy, .flickr].contains(self) }
  /// True if classes are WordNet ids.
  var hasWordNetIDs: Bool { [.imagenet, .imagenetSolution].contains(self) }

  /// Returns where the public archives keep the images, relative to the list's folder; if nowhere else, they lie in it.
  func usualImages(_ list: String, _ document: JSONRecord? = nil) -> [String] {
    let flickr = ["flickr30k_images", "flickr30k-images"]
    switch self {
    case .imagenetSolution: return ["ILSVRC/Data/CLS-LOC/val"]
    case .flickr: return flickr
    case .karpathy: return document?.value("dataset") == .string("flickr30k") ? flickr : []
    case .coco:
      let name = URL(filePath: list).deletingPathExtension().lastPathComponent
      return name.hasPrefix("captions_") ? ["../" + name.dropFirst("captions_".count)] : []
    case .folder, .imagenet, .imagenetV2, .table, .webdataset, .img2dataset: return []
    }
  }

  /// Recognises a file by its first line; returns nil for JSON.
  static func of(file path: String) throws -> ImportFormat? {
    let file = try OpenFile.reading(path)
    let head = try file.read(min(try file.size(), 1 << 16), of: UInt8.self, at: 0)
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
    if case .array(let images)? = document.value("images"), let first = images.first, let record = JSONRecord(first),
      record.has("sentences") || record.has("split")
    {
      return .karpathy
    }
    throw UserError(
      path,
      """
      is JSON, but neither COCO's captions (images and annotations) nor Karpathy's splits (images with split and \
      sentences); its keys are \(document.keys)
      """)
  }
}
