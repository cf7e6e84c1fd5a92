import Dist
import Foundation

/// Samples in tars, as webdataset packs them: an image, and its captions or label under the same name. The tars are
/// read twice and never held in memory: first their headers, for the keys and the count, then the texts; the threads
/// that decode images read them where they lie.
struct TarSource: ImportSource {
  let tars, captionKeys: [String]
  /// The keys of JSON files that conditions on samples name.
  let valueColumns: [String]
  /// Puts the tar's name before each key.
  let keysByTar: Bool
  private(set) var count = 0
  private(set) var labeled = false
  let labels: [String] = []

  /// Reads all headers and checks that every tar is whole and no key comes twice. `expected` are the numbers of samples
  /// by the files beside the tars.
  init(
    _ tars: [String], dataset: String, captionKeys: [String] = [], valueColumns: [String] = [],
    keysByTar: Bool = false, expected: [Int]? = nil
  ) throws {
    (self.tars, self.captionKeys, self.valueColumns, self.keysByTar) = (tars, captionKeys, valueColumns, keysByTar)
    var ledger = KeyLedger(dataset: dataset)
    var before: [Int] = []
    for (index, tar) in tars.enumerated() {
      before.append(count)
      var samples = try TarSample.Reader(tar)
      while let sample = try samples.next() {
        let key = key(sample, in: tar)
        if let earlier = ledger.note(key, at: count) {
          let other = tars[(before.firstIndex { $0 > earlier } ?? before.count) - 1]
          throw UserError(tar, twice(key, other == tar ? nil : other))
        }
        if sample.files["cls"] != nil { labeled = true }
        count += 1
      }
      if let number = expected?[index], number != count - before[index] {
        throw UserError(
          tar,
          """
          has \(Figures.count(count - before[index], "sample")), and img2dataset counted \(number) in the file beside \
          it; fetch this shard again, or import the tars by themselves with --format webdataset
          """)
      }
    }
    guard count > 0 else {
      throw UserError(tars.first ?? "", "holds no sample: no file has a name like 0017.jpg or 0017.txt")
    }
  }

  private func twice(_ key: String, _ other: String?) -> String {
    guard let other else {
      return """
        two samples have the name “\(key)”; the files of a sample must follow one another in the tar, and each tar may \
        be named only once
        """
    }
    return "has a sample “\(key)”, and so has \(other); "
      + (keysByTar
        ? "rename one of the tars, or import them apart" : "with --keys-by-tar each key begins with its tar's name")
  }

  private func key(_ sample: TarSample, in tar: String) -> String {
    let prefix = keysByTar ? URL(filePath: tar).deletingPathExtension().lastPathComponent + "/" : ""
    return SampleKey.clean(prefix + sample.key)
  }

  func entries() -> ImportReader {
    var tars = tars.makeIterator()
    var reader: TarSample.Reader?
    return {
      while true {
        if let sample = try reader?.next() { return try entry(sample, &reader) }
        guard let tar = tars.next() else { return nil }
        reader = try TarSample.Reader(tar)
      }
    }
  }

  private func entry(_ sample: TarSample, _ reader: inout TarSample.Reader?) throws -> ImportEntry {
    let tar = reader?.tar.path ?? ""
    let place = "\(tar): \(sample.key)"
    let key = key(sample, in: tar)
    do {
      let image = try sample.checkedImage()
      let texts = SampleTexts(
        text: try reader?.text(sample, "txt"), json: try reader?.text(sample, "json").map { SampleJSON($0) },
        label: try reader?.text(sample, "cls"))
      let (captions, label) = try texts.read(keys: captionKeys)
      return ImportEntry(
        ImportItem(
          place: place, path: tar, bytes: image.bytes, key: key, captions: captions, label: label,
          values: texts.values(of: valueColumns)))
    } catch let reason as ImportReason { return .leftOut(place, key: key, reason.words) }
  }
}

/// Files of a tar that belong together: neighbours whose names are equal up to the first dot of their last part.
struct TarSample {
  let key: String
  /// The files by what follows the dot, in lower case.
  private(set) var files: [String: TarMember] = [:]
  /// The endings that two files have.
  private var repeated: Set<String> = []
  private var count = 0

  /// The most files of a sample, which bounds what a tar can make the reader hold.
  private static let most = 1000

  /// The endings of images. If a sample has several images, the first in this order is taken, as in open_clip.
  static let images = ["jpg", "png", "jpeg", "webp"]

  private init(key: String) { self.key = key }

  private mutating func add(_ member: TarMember, _ ending: String) {
    if files[ending] == nil { files[ending] = member } else { repeated.insert(ending) }
    count += 1
  }

  /// Returns the sample's image if its files can be read.
  func checkedImage() throws(ImportReason) -> TarMember {
    if let ending = repeated.min() { throw ImportReason("has two files .\(ending)") }
    guard let image = Self.images.lazy.compactMap({ files[$0] }).first else {
      let other = files.keys.filter(FolderSource.otherFormats.contains).min().map { ", but a .\($0)" } ?? ""
      throw ImportReason("has no image (\(Self.images.joined(separator: ", ")))\(other)")
    }
    for file in [image] + ["txt", "json", "cls"].compactMap({ files[$0] }) {
      if let fault = file.fault { throw ImportReason("\(file.name) \(fault)") }
      let limit = file == image ? ImageCheck.mostBytes : SampleTexts.longest
      if file.bytes.count > limit {
        throw ImportReason("\(file.name) has \(file.bytes.count) bytes, more than \(limit)")
      }
    }
    guard !image.bytes.isEmpty else { throw ImportReason("\(image.name) is empty") }
    return image
  }

  struct Reader {
    private(set) var tar: TarReader
    private var ahead: (key: String, ending: String, member: TarMember)?

    init(_ path: String) throws {
      tar = try TarReader(path)
      ahead = try file()
    }

    mutating func next() throws -> TarSample? {
      guard let first = ahead else { return nil }
      var sample = TarSample(key: first.key)
      while let file = ahead, file.key == sample.key {
        guard sample.count < TarSample.most else {
          throw UserError(tar.path, "the sample “\(sample.key)” has more than \(TarSample.most) files")
        }
        sample.add(file.member, file.ending)
        ahead = try self.file()
      }
      return sample
    }

    mutating func text(_ sample: TarSample, _ ending: String) throws -> SampleTexts.File? {
      guard let member = sample.files[ending] else { return nil }
      return (member.name, try tar.contents(of: member, limit: SampleTexts.longest))
    }

    /// Returns the next member that belongs to a sample. Hidden files, files without a dot and webdataset's `__…__`
    /// do not.
    private mutating func file() throws -> (key: String, ending: String, member: TarMember)? {
      while let member = try tar.next() {
        var steps = member.name.split(separator: "/", omittingEmptySubsequences: false)
        while steps.first == "." { steps.removeFirst() }
        guard let name = steps.popLast(), let dot = name.firstIndex(of: "."), dot != name.startIndex,
          !name.hasPrefix("__")
        else { continue }
        let key = (steps + [name[..<dot]]).joined(separator: "/")
        return (key, name[name.index(after: dot)...].lowercased(), member)
      }
      return nil
    }
  }
}
