import ArgumentParser
import Dist
import Foundation

/// What a source is: a folder, a table, or a list in one of the forms in which the sets of the paper are public.
enum ImportFormat: String, CaseIterable, ExpressibleByArgument {
  /// Pictures with captions beside them, or sub-folders that are classes, numbered in the order of their bytes.
  case folder
  /// Sub-folders named by WordNet ids; labels are positions among ImageNet's 1,000.
  case imagenet
  /// Sub-folders named by numbers, which are the labels.
  case imagenetV2 = "imagenet-v2"
  /// `LOC_val_solution.csv`: ImageNet's validation pictures in one folder, their classes in a table.
  case imagenetSolution = "imagenet-solution"
  /// CSV or TSV with a header and one picture a line.
  case table
  /// COCO's caption annotations: JSON with `images` and `annotations`.
  case coco
  /// Karpathy's splits of COCO and Flickr: JSON with `images`, each with its split and sentences.
  case karpathy
  /// Flickr30k's own lists: `results_20130124.token`, or `results.csv` with bars between the fields.
  case flickr
  /// Tars of samples: neighbours whose names are equal up to the first dot (`0017.jpg`, `0017.txt`).
  case webdataset
  /// What img2dataset leaves: tars, or folders of pictures with texts beside them.
  case img2dataset

  static let words = allCases.map(\.rawValue).joined(separator: ", ")

  var isJSON: Bool { self == .coco || self == .karpathy }
  /// Whether the source is a folder.
  var isFolder: Bool { [.folder, .imagenet, .imagenetV2, .img2dataset].contains(self) }
  /// Whether texts beside the pictures may be JSON.
  var hasCaptionKeys: Bool { [.folder, .webdataset, .img2dataset].contains(self) }
  /// Whether it names pictures that lie in a folder of their own.
  var hasImages: Bool { [.imagenetSolution, .coco, .karpathy, .flickr].contains(self) }
  /// Whether classes are WordNet ids.
  var hasWordNetIDs: Bool { [.imagenet, .imagenetSolution].contains(self) }

  /// Where the public archives have the pictures, seen from the folder of the list; else they are in it.
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

  /// What a file is, by its first line; nil: JSON.
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
      throw ImportError(
        path,
        """
        is a list of captions and addresses, as Conceptual Captions has it, without pictures; fetch them and import \
        what the fetching leaves: img2dataset's folder (its output_format webdataset or files), or a table with the \
        columns filepath and title
        """)
    }
    return .table
  }

  /// What a JSON file is, by its keys.
  static func of(_ document: JSONRecord, path: String) throws(ImportError) -> ImportFormat {
    if document.has("annotations") { return .coco }
    if case .array(let images)? = document.value("images"), let first = images.first, let record = JSONRecord(first),
      record.has("sentences") || record.has("split")
    {
      return .karpathy
    }
    throw ImportError(
      path,
      """
      is JSON, but neither COCO's captions (images and annotations) nor Karpathy's splits (images with split and \
      sentences); its keys are \(document.keys)
      """)
  }
}
