import Dist

/// Files of a tar that belong together: neighbours whose names are equal up to the first dot of their last part.
struct TarSample {
  /// The name up to that dot.
  let key: String
  /// What follows the dot, in small letters, and the file.
  private(set) var files: [(ending: String, member: TarMember)] = []

  /// More files than a sample has; what a tar may make us hold is bounded.
  private static let most = 1000

  /// Endings of pictures; of several, the first in this order is taken, as open_clip does.
  static let pictures = ["jpg", "png", "jpeg", "webp"]

  init(key: String) { self.key = key }

  func file(_ ending: String) -> TarMember? { files.first { $0.ending == ending }?.member }

  var picture: TarMember? { Self.pictures.lazy.compactMap { file($0) }.first }

  /// An ending that two files have, if any.
  var repeated: String? {
    Dictionary(grouping: files, by: \.ending).filter { $1.count > 1 }.keys.min()
  }

  /// The samples of a tar, front to back.
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
          throw ImportError(tar.path, "the sample “\(sample.key)” has more than \(TarSample.most) files")
        }
        sample.files.append((file.ending, file.member))
        ahead = try self.file()
      }
      return sample
    }

    /// The bytes of one of the sample's texts; nil: there is no such file.
    mutating func text(_ sample: TarSample, _ ending: String) throws -> SampleTexts.File? {
      guard let member = sample.file(ending) else { return nil }
      return SampleTexts.File(name: member.name, bytes: try tar.contents(of: member, limit: SampleTexts.longest))
    }

    /// The next member that belongs to a sample: hidden files, those without a dot and webdataset's `__…__` do not.
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
