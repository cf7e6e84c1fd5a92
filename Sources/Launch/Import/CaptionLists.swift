import Dist
import Foundation

/// Images of a list that is held in memory, with their captions or labels. The list is not trusted: names must stay
/// within the images' folder, and what cannot be used is left out with the reason.
struct ImageList: ImportSource {
  struct Index: Hashable { fileprivate let position: Int }

  let path: String
  let folder: String
  let labels: [String]
  let labeled: Bool
  private var images: [ImportItem] = []
  private var rejections: [Rejection] = []
  private var ledger: KeyLedger

  /// - Parameter labels: the classes' names by label, or nil for a list of captions.
  init(_ path: String, images folder: String, dataset: String, labels: [String]? = nil) {
    (self.path, self.folder, self.labels, labeled) = (path, folder, labels ?? [], labels != nil)
    ledger = KeyLedger(dataset: dataset)
  }

  var count: Int { images.count + rejections.count }
  var advice: String { "; the images are looked for in \(folder): name their folder with --images" }

  /// Adds an image, or leaves it out because of its name. A key that comes twice is an error.
  mutating func add(_ name: String, label: Int? = nil, at place: String) throws(UserError) -> Index? {
    if let reason = Self.reason(against: name) {
      reject(place, reason)
      return nil
    }
    let key = SampleKey.from(path: name)
    if let earlier = ledger.note(key, at: images.count) {
      throw UserError(
        path, "\(images[earlier].place) and \(place) have the same key \"\(key)\"; every image comes once")
    }
    images.append(ImportItem(place: place, path: folder + "/" + name, key: key, label: label))
    return Index(position: images.count - 1)
  }

  mutating func add(caption: String, to image: Index, at place: String) {
    let text = caption.trimmingCharacters(in: .whitespacesAndNewlines)
    if text.utf8.contains(0) {
      reject(place, key: images[image.position].key, "its caption holds a zero byte")
    } else if !text.isEmpty {
      images[image.position].captions.append(text)
    }
  }

  mutating func reject(_ place: String, key: String = "", _ reason: String) {
    rejections.append(Rejection(place: place, key: key, reason: reason))
  }

  /// Calls `body` with every object of a JSON array and its place. An element that is no object, or for which `body`
  /// throws an `ImportReason`, is left out.
  mutating func readObjects(
    of values: [StrictJSON], named name: String,
    _ body: (_ list: inout ImageList, _ place: String, _ record: JSONRecord) throws -> Void
  ) throws {
    for (index, value) in values.enumerated() {
      let place = "\(name)[\(index)]"
      do {
        guard let record = JSONRecord(value) else { throw ImportReason("expected an object, found \(value.kind)") }
        try body(&self, place, record)
      } catch let reason as ImportReason { reject(place, reason.words) }
    }
  }

  private static func reason(against name: String) -> String? {
    if name.isEmpty { return "names no image" }
    if name.utf8.contains(0) { return "its image's name holds a zero byte" }
    let isOutside = name.hasPrefix("/") || name.split(separator: "/").contains("..")
    return isOutside ? "its image \"\(name)\" lies outside of the images' folder" : nil
  }

  func entries() -> ImportReader {
    var images = images.makeIterator()
    var rejections = rejections.makeIterator()
    return {
      guard let image = images.next() else { return rejections.next().map { .rejected($0) } }
      let isBare = !labeled && image.captions.isEmpty
      return isBare ? .leftOut(image.place, key: image.key, "has no caption") : .item(image)
    }
  }
}

/// Reads COCO's caption annotations, such as `captions_val2017.json`. `images` gives the images and their order by `id`
/// and `file_name`; `annotations` gives captions by `image_id`, in no order of images. An image's captions keep the
/// order of the file.
enum COCOCaptions {
  static func read(_ document: JSONRecord, into list: inout ImageList) throws {
    let path = list.path
    let listed: [StrictJSON]
    let annotations: [StrictJSON]
    do throws(ImportReason) {
      listed = try document.array("images")
      annotations = try document.array("annotations")
    } catch { throw UserError(path, "is not a file of COCO's captions: \(error.words)") }
    guard annotations.contains(where: { JSONRecord($0)?.has("caption") ?? false }) else {
      throw UserError(
        path, "has no caption in its \(Figures.count(annotations.count, "annotation")); give a captions_….json")
    }

    var images: [Int: ImageList.Index?] = [:]
    var places: [Int: String] = [:]
    try list.readObjects(of: listed, named: "images") { list, place, record in
      let id = try record.integer("id")
      if let earlier = places.updateValue(place, forKey: id) {
        throw UserError(path, "\(earlier) and \(place) have the same id \(id)")
      }
      // Entered even if the image is left out, so that its captions are left out with it.
      images[id] = .some(nil)
      images[id] = try list.add(try record.string("file_name"), at: place)
    }
    try list.readObjects(of: annotations, named: "annotations") { list, place, record in
      let id = try record.integer("image_id")
      guard let image = images[id] else {
        throw ImportReason("belongs to the image \(id), which the file does not list")
      }
      let caption = try record.string("caption")
      if let image { list.add(caption: caption, to: image, at: place) }
    }
  }
}

/// Reads Karpathy's splits of COCO and Flickr, such as `dataset_coco.json` and `dataset_flickr30k.json`. Every entry of
/// `images` has its `split`, the image's `filename` in the folder `filepath` (COCO only), and `sentences` with the
/// captions in `raw`, which keep their order.
enum KarpathySplits {
  /// Reads the images of some splits, such as test, or train and restval.
  static func read(_ document: JSONRecord, splits: [String], into list: inout ImageList) throws {
    let path = list.path
    let images: [StrictJSON]
    do throws(ImportReason) { images = try document.array("images") } catch {
      throw UserError(path, "is not a file of Karpathy's splits: it \(error.words)")
    }
    var sizes: [String: Int] = [:]
    try list.readObjects(of: images, named: "images") { list, place, record in
      let split = try record.string("split")
      sizes[split, default: 0] += 1
      if splits.contains(split) { try add(record, at: place, to: &list) }
    }
    let known = sizes.sorted { $0.key < $1.key }.map { "\($0.key) (\($0.value))" }.joined(separator: ", ")
    guard !splits.isEmpty else { throw UserError(path, "has the splits \(known); name what to import with --split") }
    for split in splits where sizes[split] == nil {
      throw UserError(path, "has no split \"\(split)\"; it has \(known.isEmpty ? "none" : known)")
    }
  }

  private static func add(_ record: JSONRecord, at place: String, to list: inout ImageList) throws {
    let name = try record.string("filename")
    let folder = record.has("filepath") ? try record.string("filepath") : ""
    let sentences = try record.array("sentences")
    let path = name.isEmpty || folder.isEmpty ? name : "\(folder)/\(name)"
    guard let image = try list.add(path, at: place) else { return }
    try list.readObjects(of: sentences, named: "\(place).sentences") { list, place, sentence in
      list.add(caption: try sentence.string("raw"), to: image, at: place)
    }
  }
}

/// Reads Flickr30k's own lists of the captions of all its images: `results_20130124.token` (`name#number`, a tab, the
/// caption), or `results.csv` (`name| number| caption` below a header). Images are in the order of their first lines,
/// an image's captions in the order of their numbers. Quotes are characters like any other.
enum FlickrCaptions {
  private struct Image {
    var place, name: String
    var captions: [Int: (place: String, text: String)] = [:]
  }

  static func read(into list: inout ImageList) throws {
    var reader = try DelimitedReader(list.path, separator: UInt8(ascii: "|"), quoted: false)
    let barred = try reader.next()?.fields.first == Array("image_name".utf8)
    if !barred { reader = try DelimitedReader(list.path, separator: UInt8(ascii: "\t"), quoted: false) }

    var images: [Image] = []
    var positions: [String: Int] = [:]
    while let record = try reader.next() {
      let place = "line \(record.line)"
      do throws(ImportReason) {
        let (name, number, caption) = try line(record, barred: barred)
        let position = positions[name] ?? images.count
        if position == images.count {
          positions[name] = position
          images.append(Image(place: place, name: name))
        }
        if let earlier = images[position].captions[number] {
          throw ImportReason("has caption \(number) of \"\(name)\" again, after \(earlier.place)")
        }
        images[position].captions[number] = (place, caption)
      } catch { list.reject(place, error.words) }
    }
    for image in images {
      guard let index = try list.add(image.name, at: image.place) else { continue }
      for (_, caption) in image.captions.sorted(by: { $0.key < $1.key }) {
        list.add(caption: caption.text, to: index, at: caption.place)
      }
    }
  }

  private static func line(
    _ record: DelimitedReader.Record, barred: Bool
  ) throws(ImportReason) -> (name: String, number: Int, caption: String) {
    let expected = barred ? 3 : 2
    guard record.fields.count == expected else {
      throw ImportReason("has \(Figures.count(record.fields.count, "field")), expected \(expected)")
    }
    let texts = record.fields.compactMap { String(validating: $0, as: UTF8.self) }.map { String($0.drop { $0 == " " }) }
    guard texts.count == expected else { throw ImportReason("is not UTF-8") }
    if barred {
      if let number = Int(texts[1]) { return (texts[0], number, texts[2]) }
      throw ImportReason("expected a caption's number, found \"\(texts[1])\"")
    }
    guard let mark = texts[0].lastIndex(of: "#"), let number = Int(texts[0][texts[0].index(after: mark)...])
    else { throw ImportReason("expected name#number before the tab, found \"\(texts[0])\"") }
    return (String(texts[0][..<mark]), number, texts[1])
  }
}
