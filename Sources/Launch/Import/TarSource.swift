import Dist
import Foundation

/// Samples in tars, as webdataset has them: a picture, and its captions or label under the same name.
///
/// The tars are read twice and never held: first their headers, for the keys and the count, then the texts; pictures
/// are read at their place by the threads that decode them.
struct TarSource: ImportSource {
  let tars: [String]
  let captionKeys: [String]
  /// Whether the tar's name stands before each key.
  let keysByTar: Bool
  private(set) var count = 0
  private(set) var labeled = false
  let labels: [String] = []

  /// Reads all headers and checks them: every tar is whole, no key comes twice.
  ///
  /// - Parameter expected: how many samples each tar has by what lies beside it.
  init(
    _ tars: [String], corpus: String, captionKeys: [String] = [], keysByTar: Bool = false, expected: [Int]? = nil
  ) throws {
    self.tars = tars
    self.captionKeys = captionKeys
    self.keysByTar = keysByTar
    var ledger = KeyLedger(corpus: corpus)
    /// How many samples there are before each tar.
    var before: [Int] = []
    for (index, tar) in tars.enumerated() {
      before.append(count)
      var samples = try TarSample.Reader(tar)
      while let sample = try samples.next() {
        let key = key(sample, in: tar)
        if let earlier = ledger.note(key, at: count) {
          let other = tars[(before.firstIndex { $0 > earlier } ?? before.count) - 1]
          throw ImportError(tar, Self.twice(key, other == tar ? nil : other, keysByTar: keysByTar))
        }
        if sample.file("cls") != nil { labeled = true }
        count += 1
      }
      if let number = expected?[index], number != count - before[index] {
        throw ImportError(
          tar,
          """
          has \(count - before[index]) samples, and img2dataset counted \(number) in the file beside it; fetch this \
          shard again, or import the tars by themselves with --format webdataset
          """)
      }
    }
    guard count > 0 else {
      throw ImportError(tars.first ?? "", "holds no sample: no file has a name like 0017.jpg or 0017.txt")
    }
  }

  private static func twice(_ key: String, _ other: String?, keysByTar: Bool) -> String {
    guard let other else {
      return """
        two samples have the name “\(key)”; the files of a sample must follow one another in the tar, and a tar be \
        named once
        """
    }
    if keysByTar { return "has a sample “\(key)”, and so has \(other); rename one of the tars, or import them apart" }
    return "has a sample “\(key)”, and so has \(other); with --keys-by-tar the tars' names stand before the samples'"
  }

  private func key(_ sample: TarSample, in tar: String) -> String {
    let prefix = keysByTar ? URL(filePath: tar).deletingPathExtension().lastPathComponent + "/" : ""
    return SampleKey.clean(prefix + sample.key)
  }

  func entries() throws -> any ImportReader { Reader(source: self) }

  private struct Reader: ImportReader {
    let source: TarSource
    var samples: TarSample.Reader?
    /// How many tars were begun.
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
      func rejected(_ reason: String) -> ImportEntry {
        .rejected(Rejection(place: place, key: key, reason: reason))
      }
      if let ending = sample.repeated { return rejected("has two files .\(ending)") }
      guard let picture = sample.picture else {
        return rejected("has no picture (\(TarSample.pictures.joined(separator: ", ")))")
      }
      for file in [picture] + ["txt", "json", "cls"].compactMap({ sample.file($0) }) {
        if let fault = file.fault { return rejected("\(file.name) \(fault)") }
        let limit = file == picture ? PictureCheck.mostBytes : SampleTexts.longest
        if file.bytes.count > limit {
          return rejected("\(file.name) has \(file.bytes.count) bytes, more than \(limit)")
        }
      }
      guard !picture.bytes.isEmpty else { return rejected("\(picture.name) is empty") }
      let texts = SampleTexts(
        text: try samples?.text(sample, "txt"), json: try samples?.text(sample, "json"),
        label: try samples?.text(sample, "cls"))
      do throws(SampleTexts.Reason) {
        let (captions, label) = try texts.read(keys: source.captionKeys)
        guard !captions.isEmpty || label != nil else { return rejected("has neither a caption nor a label") }
        return .item(
          ImportItem(place: place, path: tar, bytes: picture.bytes, key: key, captions: captions, label: label))
      } catch { return rejected(error.words) }
    }
  }
}
