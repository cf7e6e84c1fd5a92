internal import Foundation
public import Settings

/// How the numbers of a cache are stored.
public enum CacheType: String, CaseIterable, Codable, FieldValue {
  case fp32, fp16, bf16

  var stored: HDF5Type {
    switch self {
    case .fp32: .float32
    case .fp16: .float16
    case .bf16: .bfloat16
    }
  }
}

/// What a teacher cache holds: the file `cache.json` in its folder.
///
/// It is there from the beginning, without parts; they are listed when all are written.
public struct CacheManifest: Codable, Hashable, Sendable {
  /// One file: the embeddings of consecutive samples, and of their captions.
  public struct Part: Codable, Hashable, Sendable {
    public let file: String
    /// The samples that it holds.
    public let first: Int
    public let end: Int
    /// The captions that it holds, counted over the corpus.
    public let firstCaption: Int
    public let endCaption: Int
    /// Where in the file the numbers of `/image` and `/text` begin.
    public let imageOffset: Int
    public let textOffset: Int
    public let bytes: Int
    /// Of the whole file, in hexadecimal digits.
    public let sha256: String

    enum CodingKeys: String, CodingKey {
      case file, first, end, bytes, sha256
      case firstCaption = "first_caption"
      case endCaption = "end_caption"
      case imageOffset = "image_offset"
      case textOffset = "text_offset"
    }
  }

  public static let file = "cache.json"
  static let currentFormat = 1
  static var encoder: JSONEncoder {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return encoder
  }

  public let format: Int
  public let description: CacheDescription
  /// The teacher's logarithmic scale of similarities, as its weights have it.
  public let logitScale: Float
  public let type: CacheType
  /// Samples in each part but the last.
  public let partSamples: Int
  /// The program that wrote it, and its BLAS kernel, of which the last bits are a function.
  public let version: String
  public let kernel: String
  /// Empty until all of them are written.
  public internal(set) var parts: [Part] = []
  /// SHA-256 over all else.
  private var digest = ""

  enum CodingKeys: String, CodingKey {
    case format, description, type, version, kernel, parts, digest
    case logitScale = "logit_scale"
    case partSamples = "part_samples"
  }

  public init(
    _ description: CacheDescription, logitScale: Float, type: CacheType, partSamples: Int, version: String,
    kernel: String
  ) {
    precondition(partSamples > 0)
    format = Self.currentFormat
    self.description = description
    self.logitScale = logitScale
    self.type = type
    self.partSamples = partSamples
    self.version = version
    self.kernel = kernel
  }

  /// How many parts a whole cache has.
  public var partCount: Int { (description.corpus.samples + partSamples - 1) / partSamples }
  public var isWhole: Bool { parts.count == partCount }

  /// The samples of a part.
  public func samples(ofPart index: Int) -> Range<Int> {
    index * partSamples..<min((index + 1) * partSamples, description.corpus.samples)
  }

  static func partFile(_ index: Int) -> String { "part-\(CheckpointManifest.digits(index, 5)).h5" }

  /// What parts of it are bound to: the same bits come of the same key (and BLAS kernel).
  var key: String { "\(description.key) \(type.rawValue) \(partSamples) \(version)" }

  /// Publishes the manifest in `folder`.
  func write(into folder: String) throws {
    var copy = self
    copy.digest = ""
    copy.digest = SHA256.hash(try Self.encoder.encode(copy)).hexadecimal
    let text = [UInt8](try Self.encoder.encode(copy)) + [UInt8(ascii: "\n")]
    try Publish.file(
      "\(folder)/\(Self.file)", raising: { $0 }, body: { (file) throws(FileError) in try file.append(text) })
  }

  /// Reads the manifest of `folder` and proves that it is unaltered and makes sense; nil where there is none.
  public static func read(_ folder: String) throws -> CacheManifest? {
    let path = "\(folder)/\(file)"
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    let source = try OpenFile.reading(path)
    let bytes = try source.read(try source.size(), of: UInt8.self, at: 0)
    let manifest: CacheManifest
    do { manifest = try JSONDecoder().decode(CacheManifest.self, from: Data(bytes)) } catch {
      throw CacheError(folder, ["\(file) cannot be understood: \(error)"], advice: advice)
    }
    guard manifest.format == currentFormat else {
      throw CacheError(
        folder, ["\(file) has format \(manifest.format), this program reads \(currentFormat)"], advice: advice)
    }
    var copy = manifest
    copy.digest = ""
    guard SHA256.hash(try encoder.encode(copy)).hexadecimal == manifest.digest else {
      throw CacheError(folder, ["\(file) was altered: its contents are not those of its digest"], advice: advice)
    }
    if let problem = manifest.problem { throw CacheError(folder, ["\(file): \(problem)"], advice: advice) }
    return manifest
  }

  private static let advice = "remove \(file) and run kinship precompute, which keeps the parts that are whole"

  /// What contradicts itself; nil where nothing does.
  private var problem: String? {
    let (corpus, width) = (description.corpus, description.teacher.width)
    guard min(partSamples, width, description.views) > 0, min(corpus.samples, corpus.captions) >= 0 else {
      return "a count is not positive"
    }
    guard logitScale.isFinite else { return "the logit scale is \(logitScale)" }
    guard !parts.isEmpty else { return nil }
    guard isWhole else { return "it lists \(parts.count) parts of \(partCount)" }
    var caption = 0
    for (index, part) in parts.enumerated() {
      guard part.file == Self.partFile(index), part.first..<part.end == samples(ofPart: index),
        part.firstCaption == caption, part.endCaption >= caption
      else { return "part \(index), \(part.file), is not where it should be" }
      caption = part.endCaption
      let ends = [
        (part.imageOffset, (part.end - part.first) * description.views),
        (part.textOffset, part.endCaption - part.firstCaption),
      ].map { $0.0 + $0.1 * width * type.stored.size }
      guard min(part.imageOffset, part.textOffset) >= 0, ends.allSatisfy({ $0 <= part.bytes }) else {
        return "\(part.file) is said to have its numbers outside of the file"
      }
    }
    return caption == corpus.captions ? nil : "the parts have \(caption) captions, the corpus \(corpus.captions)"
  }
}

extension CacheManifest.Part {
  /// What is wrong with the file in `folder`; nil for nothing.
  func problem(in folder: String, checksum: Bool) -> String? {
    let path = "\(folder)/\(file)"
    guard FileManager.default.fileExists(atPath: path) else { return "\(file) is missing" }
    do throws(FileError) {
      let source = try OpenFile.reading(path)
      let size = try source.size()
      guard size == bytes else { return "\(file) is damaged: it has \(size) bytes, expected \(bytes)" }
      guard checksum else { return nil }
      let found = try source.sha256()
      return found == sha256 ? nil : "\(file) is damaged: its SHA-256 is \(found), expected \(sha256)"
    } catch { return "\(error)" }
  }
}

extension Communicator {
  /// Everything that any rank found, in rank order. Every rank must call it.
  func all(_ problems: [String]) throws -> [String] {
    try allGather([UInt8](JSONEncoder().encode(problems))).flatMap {
      try JSONDecoder().decode([String].self, from: Data($0))
    }
  }
}
