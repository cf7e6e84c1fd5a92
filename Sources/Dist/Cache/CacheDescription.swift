internal import Foundation

/// What the embeddings in a teacher cache are functions of.
public struct CacheDescription: Codable, Hashable, Sendable {
  public struct Teacher: Codable, Hashable, Sendable {
    /// Where its weights were, for messages; the same weights may lie elsewhere.
    public var path: String
    /// Of its weights.
    public var sha256: String
    /// Its sizes in open_clip's JSON.
    public var config: String
    public var vocabularySHA256: String
    /// d, the numbers of an embedding.
    public var width: Int
    /// How its products read their operands where not as they are: `bf16`.
    public var precision: String?

    public init(
      path: String, sha256: String, config: String, vocabularySHA256: String, width: Int, precision: String? = nil
    ) {
      self.path = path
      self.sha256 = sha256
      self.config = config
      self.vocabularySHA256 = vocabularySHA256
      self.width = width
      self.precision = precision
    }

    enum CodingKeys: String, CodingKey {
      case path, sha256, config, width, precision
      case vocabularySHA256 = "vocabulary_sha256"
    }
  }

  public struct Source: Codable, Hashable, Sendable {
    public var name: String
    /// `Corpus.fingerprint`.
    public var sha256: String
    public var samples: Int
    public var captions: Int

    public init(_ corpus: Corpus) {
      name = corpus.name
      sha256 = corpus.fingerprint
      samples = corpus.count
      captions = corpus.index.totals.captions
    }
  }

  public var teacher: Teacher
  public var corpus: Source
  /// The seed of crops and colours.
  public var seed: UInt64
  /// K, the crops of a picture.
  public var views: Int
  /// How pictures were prepared: each option's name and value as text.
  public var image: [String: String]

  public init(teacher: Teacher, corpus: Source, seed: UInt64, views: Int, image: [String: String]) {
    self.teacher = teacher
    self.corpus = corpus
    self.seed = seed
    self.views = views
    self.image = image
  }

  /// Why these embeddings are not those that `wanted` describes, one sentence each; empty where they are. More views
  /// than are wanted do no harm.
  public func differences(from wanted: CacheDescription) -> [String] {
    var found: [String] = []
    func compare(_ what: String, _ own: String, _ other: String) {
      if own != other { found.append("\(what) is \(own), the run asks for \(other)") }
    }
    if teacher.sha256 != wanted.teacher.sha256 {
      compare(
        "its teacher", "\(teacher.path) (SHA-256 \(teacher.sha256))",
        "\(wanted.teacher.path) (SHA-256 \(wanted.teacher.sha256))")
    } else {
      compare("the configuration of its teacher", teacher.config, wanted.teacher.config)
      compare(
        "its teacher's vocabulary", "SHA-256 \(teacher.vocabularySHA256)",
        "SHA-256 \(wanted.teacher.vocabularySHA256)")
    }
    compare("its teacher's precision", teacher.precision ?? "fp32", wanted.teacher.precision ?? "fp32")
    compare("its corpus", corpus.text, wanted.corpus.text)
    compare("its data.seed", "\(seed)", "\(wanted.seed)")
    if views < wanted.views { compare("its data.views", "\(views)", "\(wanted.views)") }
    for name in Set(image.keys).union(wanted.image.keys).sorted() {
      compare("its teacher's image.\(name)", image[name] ?? "not given", wanted.image[name] ?? "not given")
    }
    return found
  }

  /// The same for everything but where the weights were.
  var key: String {
    var copy = self
    copy.teacher.path = ""
    guard let text = try? CacheManifest.encoder.encode(copy) else { preconditionFailure("text that cannot be encoded") }
    return SHA256.hash(text).hexadecimal
  }
}

extension CacheDescription.Source {
  fileprivate var text: String { "\(name) with \(samples) pictures and \(captions) captions (\(sha256))" }
}
