import Dist
import Model

/// The captions of a dataset that take part in an evaluation. Their texts stay with the dataset.
struct EvaluatedCaptions {
  private let dataset: Dataset
  /// The sample of each caption, and the caption's number among those of its sample.
  private(set) var samples: [Int] = []
  private var choices: [Int32] = []

  var count: Int { samples.count }

  /// Returns the bytes of so many captions, and of the digests and numbers of their texts with the table of both.
  static func bytes(_ count: Int) -> Int { count * (12 + 2 * TextDigest.size + 8 + 48) }

  /// Takes all captions of a dataset in its order, or the first one of each image. Throws a `UserError` without any.
  init(_ captions: RetrievalEvaluation.Captions, of dataset: Dataset) throws {
    self.dataset = dataset
    guard dataset.count > 0 else { throw dataset.nothingToEvaluate("images") }
    for sample in 0..<dataset.count {
      let count = dataset.captionCount(sample)
      for choice in 0..<(captions == .all ? count : min(count, 1)) {
        samples.append(sample)
        choices.append(Int32(choice))
      }
    }
    guard !samples.isEmpty else { throw dataset.nothingToEvaluate("captions") }
    guard max(samples.count, dataset.count) <= Int32.max else {
      throw UserError(
        "the dataset \(dataset.name) has 2³¹ captions or images or more, which no evaluation ranks; evaluate on a part")
    }
  }

  func text(_ caption: Int) -> String { dataset.caption(samples[caption], choice: Int(choices[caption])) }

  /// Returns some of the captions.
  func keeping(_ captions: [Int]) -> EvaluatedCaptions {
    var kept = self
    kept.samples = captions.map { samples[$0] }
    kept.choices = captions.map { choices[$0] }
    return kept
  }
}

extension Communicator {
  /// Returns the number of each of `count` captions' cleaned texts, as `RetrievalPairs.texts(of:)` does. Each rank
  /// cleans its share, and what all ranks hold of a text is 16 bytes of its SHA-256. Every rank must call it.
  func textNumbers(_ count: Int, text: (Int) -> String) throws -> [Int] {
    let own = slice(of: count).flatMap { SHA256.hash(RetrievalPairs.cleaned(text($0))).bytes.prefix(TextDigest.size) }
    let digests = try allGather(own).lazy.flatMap { bytes in
      stride(from: 0, to: bytes.count, by: TextDigest.size).lazy.map { TextDigest(bytes[$0..<$0 + TextDigest.size]) }
    }
    return RetrievalPairs.numbers(of: digests)
  }
}

/// The first half of a text's SHA-256.
private struct TextDigest: Hashable {
  static let size = 16
  private let high, low: UInt64

  init(_ bytes: ArraySlice<UInt8>) {
    func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
    (high, low) = (number(bytes.prefix(8)), number(bytes.suffix(8)))
  }
}
