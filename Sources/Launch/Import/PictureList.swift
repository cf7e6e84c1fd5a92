import Foundation

/// Pictures of a list that was read as a whole, with their captions or labels.
///
/// The list may come from anybody: names must stay within the pictures' folder, and what cannot be used is left out
/// with the reason.
struct PictureList: ImportSource {
  /// A picture of the list by its position.
  struct Index: Hashable { fileprivate let position: Int }

  private struct Picture {
    var place: String
    var name: String
    var key: String
    var captions: [String] = []
    var label: Int?
  }

  /// The list, for messages, and the folder of its pictures.
  let path: String
  let images: String
  let labels: [String]
  let labeled: Bool
  private var pictures: [Picture] = []
  private var rejections: [Rejection] = []
  private var ledger: KeyLedger

  /// - Parameter labels: the classes' names by label; nil: a list of captions.
  init(_ path: String, images: String, corpus: String, labels: [String]? = nil) {
    self.path = path
    self.images = images
    self.labels = labels ?? []
    labeled = labels != nil
    ledger = KeyLedger(corpus: corpus)
  }

  var count: Int { pictures.count + rejections.count }
  var advice: String { "; the pictures are looked for in \(images): name their folder with --images" }

  /// Adds a picture, or leaves it out because of its name; refused is a key for the second time.
  mutating func add(_ name: String, label: Int? = nil, at place: String) throws(ImportError) -> Index? {
    if let reason = Self.reason(against: name) {
      reject(place, reason)
      return nil
    }
    let picture = Picture(place: place, name: name, key: SampleKey.from(path: name), label: label)
    if let earlier = ledger.note(picture.key, at: pictures.count) {
      throw ImportError(
        path, "\(pictures[earlier].place) and \(place) have the same key \"\(picture.key)\"; every picture comes once")
    }
    pictures.append(picture)
    return Index(position: pictures.count - 1)
  }

  /// Adds a caption, trimmed; an empty one is no caption.
  mutating func add(caption: String, to picture: Index, at place: String) {
    let text = caption.trimmingCharacters(in: .whitespacesAndNewlines)
    if text.utf8.contains(0) {
      reject(place, key: pictures[picture.position].key, "its caption holds a zero byte")
    } else if !text.isEmpty {
      pictures[picture.position].captions.append(text)
    }
  }

  mutating func reject(_ place: String, key: String = "", _ reason: String) {
    rejections.append(Rejection(place: place, key: key, reason: reason))
  }

  private static func reason(against name: String) -> String? {
    if name.isEmpty { return "names no picture" }
    if name.utf8.contains(0) { return "its picture's name holds a zero byte" }
    if name.hasPrefix("/") || name.split(separator: "/").contains("..") {
      return "its picture \"\(name)\" lies outside of the pictures' folder"
    }
    return nil
  }

  func entries() -> any ImportReader { Reader(list: self) }

  /// The pictures first, then what of the list was no picture.
  private struct Reader: ImportReader {
    let list: PictureList
    var at = 0

    mutating func next() -> ImportEntry? {
      defer { at += 1 }
      guard at < list.pictures.count else {
        let rest = at - list.pictures.count
        return rest < list.rejections.count ? .rejected(list.rejections[rest]) : nil
      }
      let picture = list.pictures[at]
      guard list.labeled || !picture.captions.isEmpty else {
        return .rejected(Rejection(place: picture.place, key: picture.key, reason: "has no caption"))
      }
      return .item(
        ImportItem(
          place: picture.place, path: list.images + "/" + picture.name, key: picture.key, captions: picture.captions,
          label: picture.label))
    }
  }
}
