import Dist
import Foundation

/// Images of a list that is held in memory, with their captions or labels.
///
/// The list is not trusted: names must stay within the images' folder, and what cannot be used is left out with the
/// reason.
struct ImageList: ImportSource {
  /// Refers to an image of the list by its position.
  struct Index: Hashable { fileprivate let position: Int }

  private struct Image {
    var place: String
    var name: String
    var key: String
    var captions: [String] = []
    var label: Int?
  }

  /// The list's file, for messages.
  let path: String
  /// The folder of its images.
  let folder: String
  let labels: [String]
  let labeled: Bool
  private var images: [Image] = []
  private var rejections: [Rejection] = []
  private var ledger: KeyLedger

  /// - Parameter labels: the classes' names by label, or nil for a list of captions.
  init(_ path: String, images folder: String, dataset: String, labels: [String]? = nil) {
    self.path = path
    self.folder = folder
    self.labels = labels ?? []
    labeled = labels != nil
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
    let image = Image(place: place, name: name, key: SampleKey.from(path: name), label: label)
    if let earlier = ledger.note(image.key, at: images.count) {
      throw UserError(
        path, "\(images[earlier].place) and \(place) have the same key \"\(image.key)\"; every image comes once")
    }
    images.append(image)
    return Index(position: images.count - 1)
  }

  /// Adds a trimmed caption, unless it is empty.
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
      guard let record = JSONRecord(value) else {
        reject(place, "expected an object, found \(value.kind)")
        continue
      }
      do { try body(&self, place, record) } catch let reason as ImportReason { reject(place, reason.words) }
    }
  }

  private static func reason(against name: String) -> String? {
    if name.isEmpty { return "names no image" }
    if name.utf8.contains(0) { return "its image's name holds a zero byte" }
    if name.hasPrefix("/") || name.split(separator: "/").contains("..") {
      return "its image \"\(name)\" lies outside of the images' folder"
    }
    return nil
  }

  func entries() -> any ImportReader { Reader(list: self) }

  /// Reads the images, then what was rejected from the list.
  private struct Reader: ImportReader {
    let list: ImageList
    var at = 0

    mutating func next() -> ImportEntry? {
      defer { at += 1 }
      guard at < list.images.count else {
        let rest = at - list.images.count
        return rest < list.rejections.count ? .rejected(list.rejections[rest]) : nil
      }
      let image = list.images[at]
      guard list.labeled || !image.captions.isEmpty else {
        return .rejected(Rejection(place: image.place, key: image.key, reason: "has no caption"))
      }
      return .item(
        ImportItem(
          place: image.place, path: list.folder + "/" + image.name, key: image.key, captions: image.captions,
          label: image.label))
    }
  }
}
