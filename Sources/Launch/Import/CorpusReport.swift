import Dist
import Foundation
import Model

/// What is in a corpus, in figures and by its first samples.
struct CorpusReport: Encodable {
  struct Spread: Encodable {
    var least = 0
    var mean = 0.0
    var most = 0

    init(_ values: some Sequence<Int>) {
      var count = 0
      var sum = 0
      for value in values {
        least = count == 0 ? value : min(least, value)
        most = max(most, value)
        sum += value
        count += 1
      }
      mean = count == 0 ? 0 : Double(sum) / Double(count)
    }
  }

  struct Example: Encodable {
    var key: String
    /// "72 × 72 PNG", or why the header cannot be read.
    var picture: String
    var bytes: Int
    var captions: [String]
    var label: Int?
  }

  var name: String
  var fingerprint: String
  var shards: Int
  var samples: Int
  var captions: Int
  var fileBytes: Int
  var imageBytes: Spread
  var captionsPerPicture: Spread
  var withoutCaption: Int
  var captionCharacters: Spread
  var distinctCaptions: Int
  var labeledSamples: Int
  /// How many different labels there are, and which.
  var distinctLabels: Int
  var labels: [Int]
  var labelNames: [String]
  var first: [Example]

  init(_ corpus: Corpus, examples: Int) throws {
    name = corpus.name
    fingerprint = corpus.fingerprint
    shards = corpus.index.shards.count
    samples = corpus.count
    captions = corpus.index.totals.captions
    fileBytes = corpus.index.totals.fileBytes
    imageBytes = Spread((0..<corpus.count).lazy.map { corpus.imageSize($0) })
    captionsPerPicture = Spread((0..<corpus.count).lazy.map { corpus.captionCount($0) })
    let given = (0..<corpus.count).compactMap { corpus.label($0) }
    labeledSamples = given.count
    labels = Set(given).sorted()
    distinctLabels = labels.count
    labelNames = corpus.index.labels
    withoutCaption = 0
    var lengths: [Int] = []
    var distinct: Set<Int> = []
    for sample in 0..<corpus.count {
      let texts = corpus.captions(sample)
      if texts.isEmpty { withoutCaption += 1 }
      for text in texts {
        lengths.append(text.count)
        distinct.insert(text.hashValue)
      }
    }
    captionCharacters = Spread(lengths)
    distinctCaptions = distinct.count
    first = try (0..<min(examples, corpus.count)).map { try Self.example(corpus, $0) }
  }

  private static func example(_ corpus: Corpus, _ sample: Int) throws -> Example {
    let bytes = try corpus.image(sample)
    var picture: String
    do throws(ImageError) {
      let info = try ImageDecoder.probe(bytes)
      picture = "\(info.width) × \(info.height) \(info.format.title)"
    } catch { picture = "\(error)" }
    return Example(
      key: corpus.key(sample), picture: picture, bytes: bytes.count, captions: corpus.captions(sample),
      label: corpus.label(sample))
  }

  var json: String {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      encoder.keyEncodingStrategy = .convertToSnakeCase
      return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
  }

  var text: String {
    func mean(_ spread: Spread) -> String { Figures.fixed(spread.mean, 1) }
    var lines = [
      "corpus       \(name)",
      "fingerprint  \(fingerprint)",
      "samples      \(samples) in \(shards) shard\(shards == 1 ? "" : "s"), \(Figures.bytes(fileBytes))",
      "pictures     \(imageBytes.least) to \(imageBytes.most) bytes, \(mean(imageBytes)) on average",
      "captions     \(captions), \(distinctCaptions) of them different; \(captionsPerPicture.least) to "
        + "\(captionsPerPicture.most) a picture, \(mean(captionsPerPicture)) on average; "
        + "\(withoutCaption) pictures without",
      "             \(captionCharacters.least) to \(captionCharacters.most) characters, "
        + "\(mean(captionCharacters)) on average",
    ]
    if labeledSamples > 0 {
      // Of ImageNet's names a corpus may hold pictures of some only.
      let present = labels.filter(labelNames.indices.contains).map { labelNames[$0] }
      let names = present.isEmpty ? "" : ": " + present.prefix(8).joined(separator: ", ")
      let more = present.count > 8 ? ", …" : ""
      lines.append("labels       \(distinctLabels) on \(labeledSamples) pictures\(names)\(more)")
    }
    for example in first {
      let label = example.label.map { number in
        let name = labelNames.indices.contains(number) ? " \(labelNames[number])" : ""
        return ", label \(number)\(name)"
      }
      lines.append("\n\(example.key): \(example.picture), \(example.bytes) bytes\(label ?? "")")
      lines += example.captions.map { "  " + $0 }
    }
    return lines.joined(separator: "\n")
  }
}
