import Dist
import Foundation

/// Samples in tars, as webdataset packs them: an image, and its captions or label under the same name.
///
/// The tars are read twice and never held in memory: first their headers, for the keys and the count, then the texts;
/// the threads that decode images read them where they lie.
struct TarSource: ImportSource {
  let tars: [String]
  let captionKeys: [String]
  /// Puts the tar's name before each key.
  let keysByTar: Bool
  private(set) var count = 0
  private(set) var labeled = false
  let labels: [String] = []

  /// Reads all headers and checks that every tar is whole and no key comes twice.
  ///
  /// - Parameter expected: the number of samples that each tar should have, by the file beside it.
  init(
    _ tars: [String], dataset: String, captionKeys: [String] = [], keysByTar: Bool = false, expected: [Int]? = nil
  ) throws {
    self.tars = tars
    self.captionKeys = captionKeys
    self.keysByTar = keysByTar
    var ledger = KeyLedger(dataset: dataset)
    /// The number of samples before each tar.
    var before: [Int] = []
    for (index, tar) in tars.enumerated() {
      before.append(count)
      var samples = try TarSample.Reader(tar)
      while let sample = try samples.next() {
        let key = key(sample, in: tar)
        if let earlier = ledger.note(key, at: count) {
          let other = tars[(before.firstIndex { $0 > earlier } ?? before.count) - 1]
          throw UserError(tar, Self.twice(key, other == tar ? nil : other, keysByTar: keysByTar))
        }
        if sample.file("cls") != nil { labeled = true }
        count += 1
      }
      if let number = expected?[index], number != count - before[index] {
        throw UserError(
          tar,
          """
          has \(count - before[index]) samples, and img2dataset counted \(number) in the file beside it; fetch this \
          shard again, or import the tars by themselves with --format webdataset
          """)
      }
    }
    guard count > 0 else {
      throw UserError(tars.first ?? "", "holds no sample: no file has a name like 0017.jpg or 0017.txt")
    }
  }

  private static func twice(_ key: String, _ other: String?, keysByTar: Bool) -> String {
    guard let other else {
      return """
        two samples have the name “\(key)”; the files of a sample must follow one another in the tar, and each tar may \
        be named only once
        """
    }
    if keysByTar { return "has a sample “\(key)”, and so has \(other); rename one of the tars, or import them apart" }
    return "has a sample “\(key)”, and so has \(other); with --keys-by-tar each key begins with its tar's name"
  }

  private func key(_ sample: TarSample, in tar: String) -> String {
    let prefix = keysByTar ? URL(filePath: tar).deletingPathExtension().lastPathComponent + "/" : ""
    return SampleKey.clean(prefix + sample.key)
  }

  func entries() throws -> any ImportReader { Reader(source: self) }

  private struct Reader: ImportReader {
    let source: TarSource
    var samples: TarSample.Reader?
    /// The number of tars that have been opened.
    var begun = 0

    mutating func next() throws -> ImportEntry? {
      while true {
        if let sample = try samples?.next() { return try entry(sample) }
        samples = nil
        guard begun < source.tars.count else { return nil }
        samples = try TarSample.Reader(source.tars[begun])
        begun += 1
      }
    }

    private mutating func entry(_ sample: TarSample) throws -> ImportEntry {
      let tar = source.tars[begun - 1]
      let (place, key) = ("\(tar): \(sample.key)", source.key(sample, in: tar))
      do {
        let image = try checkedImage(of: sample)
        let texts = SampleTexts(
          text: try samples?.text(sample, "txt"), json: try samples?.text(sample, "json"),
          label: try samples?.text(sample, "cls"))
        let (captions, label) = try texts.read(keys: source.captionKeys)
        return ImportEntry(
          ImportItem(place: place, path: tar, bytes: image.bytes, key: key, captions: captions, label: label))
      } catch let reason as ImportReason {
        return .rejected(Rejection(place: place, key: key, reason: reason.words))
      }
    }

    /// Returns the sample's image if its files can be read.
    private func checkedImage(of sample: TarSample) throws(ImportReason) -> TarMember {
      if let ending = sample.repeated { throw ImportReason("has two files .\(ending)") }
      guard let image = sample.image else {
        throw ImportReason("has no image (\(TarSample.images.joined(separator: ", ")))")
      }
      for file in [image] + ["txt", "json", "cls"].compactMap({ sample.file($0) }) {
        if let fault = file.fault { throw ImportReason("\(file.name) \(fault)") }
        let limit = file == image ? ImageCheck.mostBytes : SampleTexts.longest
        if file.bytes.count > limit {
          throw ImportReason("\(file.name) has \(file.bytes.count) bytes, more than \(limit)")
        }
      }
      guard !image.bytes.isEmpty else { throw ImportReason("\(image.name) is empty") }
      return image
    }
  }
}

/// Files of a tar that belong together: neighbours whose names are equal up to the first dot of their last part.
struct TarSample {
  /// The name up to that dot.
  let key: String
  /// The files, each with what follows the dot in lower case.
  private(set) var files: [(ending: String, member: TarMember)] = []

  /// The most files of a sample, which bounds what a tar can make the reader hold.
  private static let most = 1000

  /// The endings of images. If a sample has several images, the first in this order is taken, as in open_clip.
  static let images = ["jpg", "png", "jpeg", "webp"]

  init(key: String) { self.key = key }

  func file(_ ending: String) -> TarMember? { files.first { $0.ending == ending }?.member }

  var image: TarMember? { Self.images.lazy.compactMap { file($0) }.first }

  /// An ending that two files have, if any.
  var repeated: String? {
    Dictionary(grouping: files, by: \.ending).filter { $1.count > 1 }.keys.min()
  }

  /// Reads the samples of a tar, from first to last.
  struct Reader: Sendable {
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
        guard sample.files.count < TarSample.most else {
          throw UserError(tar.path, "the sample “\(sample.key)” has more than \(TarSample.most) files")
        }
        sample.files.append((file.ending, file.member))
        ahead = try self.file()
      }
      return sample
    }

    /// Returns one of the sample's texts, or nil if it has no such file.
    mutating func text(_ sample: TarSample, _ ending: String) throws -> SampleTexts.File? {
      guard let member = sample.file(ending) else { return nil }
      return SampleTexts.File(name: member.name, bytes: try tar.contents(of: member, limit: SampleTexts.longest))
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
