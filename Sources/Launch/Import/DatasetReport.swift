import Dist
import Foundation
import Model

/// The contents of a dataset: figures and the first samples.
struct DatasetReport: Encodable {
  struct Distribution: Encodable {
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
    /// The image's size and format, "72 × 72 PNG", or why its header cannot be read.
    var image: String
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
  var imageBytes: Distribution
  var captionsPerImage: Distribution
  var withoutCaption: Int
  var captionCharacters: Distribution
  var distinctCaptions: Int
  var labeledSamples: Int
  /// The number of different labels.
  var distinctLabels: Int
  /// The different labels, in ascending order.
  var labels: [Int]
  var labelNames: [String]
  var first: [Example]

  init(_ dataset: Dataset, examples: Int) throws {
    name = dataset.name
    fingerprint = dataset.fingerprint
    shards = dataset.index.shards.count
    samples = dataset.count
    captions = dataset.index.totals.captions
    fileBytes = dataset.index.totals.fileBytes
    imageBytes = Distribution((0..<dataset.count).lazy.map { dataset.imageSize($0) })
    captionsPerImage = Distribution((0..<dataset.count).lazy.map { dataset.captionCount($0) })
    let given = (0..<dataset.count).compactMap { dataset.label($0) }
    labeledSamples = given.count
    labels = Set(given).sorted()
    distinctLabels = labels.count
    labelNames = dataset.index.labels
    withoutCaption = 0
    var lengths: [Int] = []
    var distinct: Set<Int> = []
    for sample in 0..<dataset.count {
      let texts = dataset.captions(sample)
      if texts.isEmpty { withoutCaption += 1 }
      for text in texts {
        lengths.append(text.count)
        distinct.insert(text.hashValue)
      }
    }
    captionCharacters = Distribution(lengths)
    distinctCaptions = distinct.count
    first = try (0..<min(examples, dataset.count)).map { try Self.example(dataset, $0) }
  }

  private static func example(_ dataset: Dataset, _ sample: Int) throws -> Example {
    let bytes = try dataset.image(sample)
    var image: String
    do throws(ImageError) {
      let info = try ImageDecoder.probe(bytes)
      image = "\(info.width) × \(info.height) \(info.format.title)"
    } catch { image = "\(error)" }
    return Example(
      key: dataset.key(sample), image: image, bytes: bytes.count, captions: dataset.captions(sample),
      label: dataset.label(sample))
  }

  var json: String { get throws { try jsonText(.prettyPrinted, keys: .convertToSnakeCase) } }

  var text: String {
    func mean(_ distribution: Distribution) -> String { Figures.fixed(distribution.mean, 1) }
    var lines = [
      "dataset      \(name)",
      "fingerprint  \(fingerprint)",
      "samples      \(samples) in \(Figures.count(shards, "shard")), \(Figures.bytes(fileBytes))",
      "images       \(imageBytes.least) to \(imageBytes.most) bytes, \(mean(imageBytes)) on average",
      "captions     \(captions), \(distinctCaptions) of them different; \(captionsPerImage.least) to "
        + "\(captionsPerImage.most) an image, \(mean(captionsPerImage)) on average; "
        + "\(withoutCaption) images without",
      "             \(captionCharacters.least) to \(captionCharacters.most) characters, "
        + "\(mean(captionCharacters)) on average",
    ]
    if labeledSamples > 0 {
      // The dataset may hold images of only some of ImageNet's classes.
      let present = labels.filter(labelNames.indices.contains).map { labelNames[$0] }
      let names = present.isEmpty ? "" : ": " + present.prefix(8).joined(separator: ", ")
      let more = present.count > 8 ? ", …" : ""
      lines.append("labels       \(distinctLabels) on \(labeledSamples) images\(names)\(more)")
    }
    for example in first {
      let label = example.label.map { number in
        let name = labelNames.indices.contains(number) ? " \(labelNames[number])" : ""
        return ", label \(number)\(name)"
      }
      lines.append("\n\(example.key): \(example.image), \(example.bytes) bytes\(label ?? "")")
      lines += example.captions.map { "  " + $0 }
    }
    return lines.joined(separator: "\n")
  }
}
