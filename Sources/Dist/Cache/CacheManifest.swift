internal import Foundation
public import Settings
public import Tensor

/// The type in which a cache stores its numbers.
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

/// The contents of a teacher cache, in its folder from the beginning. It lists the parts once all of them are written.
public struct CacheManifest: Codable, Hashable, Sendable {
  /// A file with the embeddings of the samples `first` ..< `end` and their captions, which count over the dataset.
  public struct Part: Codable, Hashable, Sendable {
    public let file: String
    public let first: Int
    public let end: Int
    public let firstCaption: Int
    public let endCaption: Int
    /// The offsets of the numbers of `/image` and `/text` in the file.
    public let imageOffset: Int
    public let textOffset: Int
    /// The offset of the numbers of `/boxes`; nil without boxes.
    public let boxesOffset: Int?
    public let bytes: Int
    /// The SHA-256 of the whole file, in hexadecimal digits.
    public let sha256: String

    /// Returns true if the part has exactly these samples.
    func covers(_ samples: Range<Int>) -> Bool { first == samples.lowerBound && end == samples.upperBound }

    enum CodingKeys: String, CodingKey {
      case file, first, end, bytes, sha256
      case firstCaption = "first_caption"
      case endCaption = "end_caption"
      case imageOffset = "image_offset"
      case textOffset = "text_offset"
      case boxesOffset = "boxes_offset"
    }
  }

  public static let file = "cache.json"
  static let currentFormat = 1
  public let format: Int
  public let description: CacheDescription
  /// The logarithm of the teacher's logit scale, as in its weights.
  public let logitScale: Float
  public let type: CacheType
  /// The number of samples in each part but the last.
  public let partSamples: Int
  /// The version of the program that wrote the cache, and its BLAS kernel.
  public let version: String
  public let kernel: String
  /// The arithmetic of the job that began the cache: one if all ranks had the same, else each rank's. It is nil in
  /// caches of earlier builds, which did not record it, and for embeddings that another program computed.
  public internal(set) var arithmetic: [Arithmetic]?
  /// The parts; empty until all of them are written.
  public internal(set) var parts: [Part] = []
  /// The SHA-256 of all other fields.
  private var digest = ""

  enum CodingKeys: String, CodingKey {
    case format, description, type, version, kernel, arithmetic, parts, digest
    case logitScale = "logit_scale"
    case partSamples = "part_samples"
  }

  public init(
    _ description: CacheDescription, logitScale: Float, type: CacheType, partSamples: Int, version: String,
    kernel: String, arithmetic: [Arithmetic]?
  ) {
    precondition(partSamples > 0)
    format = Self.currentFormat
    (self.description, self.logitScale, self.type) = (description, logitScale, type)
    (self.partSamples, self.version, self.kernel, self.arithmetic) = (partSamples, version, kernel, arithmetic)
  }

  /// The number of parts of a complete cache.
  public var partCount: Int {
    let (whole, rest) = description.dataset.samples.quotientAndRemainder(dividingBy: partSamples)
    return whole + min(rest, 1)
  }
  /// True if all parts are written.
  public var isWhole: Bool { parts.count == partCount }
  /// The arithmetic as text, where it is known.
  public var arithmeticText: String { arithmetic?.text ?? "an unknown arithmetic" }

  /// Returns the range of a part's samples.
  public func samples(ofPart index: Int) -> Range<Int> {
    let first = index * partSamples
    return first..<first + min(partSamples, description.dataset.samples - first)
  }

  /// The words by which ranks compare what each has read.
  var identity: String { "a \(Self.file) with the digest \(digest)" }
  static func partFile(_ index: Int) -> String { "part-\(index.digits(5)).h5" }
  /// The key that a part's record must match: the same key gives the same bits.
  var key: String {
    "\(description.key) \(type.rawValue) \(partSamples) \(version)" + (arithmetic.map { " \($0.text)" } ?? "")
  }
  func write(into folder: String) throws { try Publish.write(json: try digested(), to: "\(folder)/\(Self.file)") }

  private func digested() throws -> CacheManifest {
    var copy = self
    copy.digest = ""
    copy.digest = SHA256.hash(try JSONEncoder.readable.encode(copy)).hexadecimal
    return copy
  }

  /// Reads the manifest of `folder` and checks that it is unaltered and consistent. Returns nil if there is none.
  public static func read(_ folder: String) throws -> CacheManifest? {
    func refusal(_ problem: String) -> CacheError {
      let advice = "remove \(file) and run kinship precompute, which keeps the undamaged parts"
      return CacheError(folder, ["\(file)\(problem)"], advice: advice)
    }
    let path = "\(folder)/\(file)"
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    let bytes = Data(try OpenFile.contents(path))
    let manifest: CacheManifest
    do { manifest = try JSONDecoder().decode(CacheManifest.self, from: bytes) } catch {
      throw refusal(" cannot be decoded: \(error.explanation)")
    }
    guard manifest.format == currentFormat else {
      throw refusal(" has format \(manifest.format), this program reads \(currentFormat)")
    }
    guard try manifest.digested().digest == manifest.digest else {
      throw refusal(" was altered: its contents do not match its digest")
    }
    if let problem = manifest.problem { throw refusal(": \(problem)") }
    return manifest
  }

  private var problem: String? {
    let (dataset, images, texts) = (description.dataset, description.imageWidth, description.textWidth)
    guard min(partSamples, description.teacher.width, description.views) > 0,
      min(dataset.samples, dataset.captions, images, texts) >= 0,
      max(images, texts) == description.teacher.width
    else { return "a count is not positive" }
    guard logitScale.isFinite else { return "the logit scale is \(logitScale)" }
    guard !parts.isEmpty else { return nil }
    guard isWhole else { return "it lists \(parts.count) parts of \(partCount)" }
    var caption = 0
    for (index, part) in parts.enumerated() {
      guard part.file == Self.partFile(index), part.covers(samples(ofPart: index)),
        part.firstCaption == caption, part.endCaption >= caption
      else { return "part \(index), \(part.file), does not have the expected samples and captions" }
      caption = part.endCaption
      guard (part.boxesOffset != nil) == description.hasBoxes else {
        return "\(part.file) \(description.hasBoxes ? "lacks its boxes" : "has boxes, which are not expected")"
      }
      let (crops, boxes) = (Checked(part.end - part.first) * Checked(description.views), part.boxesOffset ?? 0)
      let size = Checked(type.stored.size)
      let ends: [Checked] = [
        Checked(part.imageOffset) + crops * Checked(images) * size,
        Checked(part.textOffset) + Checked(part.endCaption - part.firstCaption) * Checked(texts) * size,
        Checked(boxes) + crops * Checked(description.hasBoxes ? CacheDescription.boxBytes : 0),
      ]
      guard min(part.imageOffset, part.textOffset, boxes) >= 0, ends.allSatisfy({ $0 <= part.bytes }) else {
        return "\(part.file) claims numbers outside of the file"
      }
    }
    return caption == dataset.captions ? nil : "the parts have \(caption) captions, the dataset \(dataset.captions)"
  }
}

extension CacheManifest.Part {
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

/// Everything that the embeddings in a teacher cache depend on.
public struct CacheDescription: Codable, Hashable, Sendable {
  /// The model that the embeddings are of.
  public struct Teacher: Codable, Hashable, Sendable {
    /// The path of its weights, for messages only; the same weights may have another path.
    public var path: String
    /// The SHA-256 of its weights.
    public var sha256: String
    /// Its configuration in open_clip's JSON.
    public var config: String
    public var vocabularySHA256: String
    /// The width d of an embedding.
    public var width: Int
    /// The precision of its matrix products' operands if it is not fp32: `bf16`.
    public var precision: String?

    public init(
      path: String, sha256: String, config: String, vocabularySHA256: String, width: Int, precision: String? = nil
    ) {
      (self.path, self.sha256, self.config, self.vocabularySHA256) = (path, sha256, config, vocabularySHA256)
      (self.width, self.precision) = (width, precision)
    }

    enum CodingKeys: String, CodingKey {
      case path, sha256, config, width, precision
      case vocabularySHA256 = "vocabulary_sha256"
    }
  }

  /// The dataset whose images and captions were embedded.
  public struct Source: Codable, Hashable, Sendable {
    public var name: String
    /// The dataset's `fingerprint`.
    public var sha256: String
    public var samples: Int
    public var captions: Int

    public init(_ dataset: Dataset) {
      (name, sha256) = (dataset.name, dataset.fingerprint)
      (samples, captions) = (dataset.count, dataset.index.totals.captions)
    }

    fileprivate var text: String { "\(name) with \(samples) images and \(captions) captions (\(sha256))" }
  }

  /// What is known of embeddings that another program has computed.
  public struct Import: Codable, Hashable, Sendable {
    /// The widths of the embeddings of images and of captions; 0 for those that are missing.
    public var image: Int
    public var text: Int
    /// True if cosines of images and captions mean something, and the cache has the scale that multiplies cosines.
    public var isScaled: Bool
    /// The SHA-256 of the boxes of all crops; nil if the embeddings of images are those of their central crops.
    public var boxes: String?

    enum CodingKeys: String, CodingKey {
      case image, text, boxes
      case isScaled = "scaled"
    }
  }

  public var teacher: Teacher
  /// Nil for embeddings that `kinship precompute` has computed from a model.
  public var imported: Import?
  public var dataset: Source
  /// The seed of crops and color changes.
  public var seed: UInt64
  /// The number K of crops of an image.
  public var views: Int
  /// The options of image preparation: the name and value of each as text.
  public var image: [String: String]

  private enum CodingKeys: String, CodingKey {
    case teacher, imported, seed, views, image
    case dataset = "corpus"
  }

  public init(teacher: Teacher, dataset: Source, seed: UInt64, views: Int, image: [String: String]) {
    (self.teacher, self.dataset, self.seed, self.views, self.image) = (teacher, dataset, seed, views, image)
  }

  /// Describes embeddings from files, of which `sha256` are the checksums, in any order.
  public init(imported: Import, from files: [String], sha256: [String], dataset: Source, views: Int) {
    let sum = SHA256.hash(sha256.sorted().joined(separator: "\0").utf8).hexadecimal
    let teacher = Teacher(
      path: files.joined(separator: ", "), sha256: sum, config: "", vocabularySHA256: "",
      width: max(imported.image, imported.text))
    // Nothing is drawn by chance and no image is prepared here.
    self.init(teacher: teacher, dataset: dataset, seed: 0, views: views, image: [:])
    self.imported = imported
  }

  /// The bytes of a box in a cache: four numbers in single precision.
  static let boxBytes = 16
  /// The widths of the embeddings of images and of captions; 0 for those that are missing.
  public var imageWidth: Int { imported?.image ?? teacher.width }
  public var textWidth: Int { imported?.text ?? teacher.width }
  public var hasBoxes: Bool { imported?.boxes != nil }

  /// Returns how these embeddings differ from those wanted, one sentence each. The cache may have more views.
  public func differences(from wanted: CacheDescription) -> [String] {
    guard (imported == nil) == (wanted.imported == nil) else {
      return [
        imported == nil
          ? "its embeddings are those of the model \(teacher.path), which teacher.model would name"
          : "another program computed its embeddings (\(teacher.path)), and the run has a teacher.model"
      ]
    }
    var found: [String] = []
    func compare(_ what: String, _ value: (CacheDescription) -> String) {
      let (own, other) = (value(self), value(wanted))
      if own != other { found.append("\(what) is \(own), the run asks for \(other)") }
    }
    if teacher.sha256 != wanted.teacher.sha256 {
      compare("its teacher") { "\($0.teacher.path) (SHA-256 \($0.teacher.sha256))" }
    } else {
      compare("the configuration of its teacher") { $0.teacher.config }
      compare("its teacher's vocabulary") { "SHA-256 \($0.teacher.vocabularySHA256)" }
    }
    compare("its teacher's precision") { $0.teacher.precision ?? "fp32" }
    compare("its dataset") { $0.dataset.text }
    compare("its data.seed") { "\($0.seed)" }
    if views < wanted.views { compare("its data.views") { "\($0.views)" } }
    for name in Set(image.keys).union(wanted.image.keys).sorted() {
      compare("its teacher's image.\(name)") { $0.image[name] ?? "not given" }
    }
    return found
  }

  var key: String {
    var copy = self
    copy.teacher.path = ""
    guard let text = try? JSONEncoder.readable.encode(copy) else { preconditionFailure("text that cannot be encoded") }
    return SHA256.hash(text).hexadecimal
  }
}
