import Dist
import Foundation
import Model

/// The contents of a dataset: figures and the first samples.
struct DatasetReport: Encodable {
  struct Distribution: Encodable {
    let least, most: Int
    let mean: Double

    init(_ values: [Int]) {
      (least, most) = (values.min() ?? 0, values.max() ?? 0)
      mean = values.isEmpty ? 0 : Double(values.reduce(0, +)) / Double(values.count)
    }

    fileprivate var meanText: String { "\(Figures.fixed(mean, 1)) on average" }
  }

  struct Example: Encodable {
    var key: String
    /// The image's size and format, "72 × 72 PNG", or why its header cannot be read.
    var image: String
    var bytes: Int
    var captions: [String]
    var label: Int?
  }

  let name, fingerprint: String
  let shards, samples, captions, fileBytes: Int
  let imageBytes, captionsPerImage, captionCharacters: Distribution
  let withoutCaption, distinctCaptions, labeledSamples, distinctLabels: Int
  /// The different labels, in ascending order.
  let labels: [Int]
  let labelNames: [String]
  let first: [Example]

  init(_ dataset: Dataset, examples: Int) throws {
    let all = 0..<dataset.count
    (name, fingerprint, labelNames) = (dataset.name, dataset.fingerprint, dataset.index.labels)
    (shards, samples) = (dataset.index.shards.count, dataset.count)
    (captions, fileBytes) = (dataset.index.totals.captions, dataset.index.totals.fileBytes)
    imageBytes = Distribution(all.map { dataset.imageSize($0) })
    captionsPerImage = Distribution(all.map { dataset.captionCount($0) })
    withoutCaption = all.count { dataset.captionCount($0) == 0 }
    let given = all.compactMap { dataset.label($0) }
    labels = Set(given).sorted()
    (labeledSamples, distinctLabels) = (given.count, labels.count)
    var lengths: [Int] = []
    var distinct: Set<Int> = []
    for text in all.lazy.flatMap({ dataset.captions($0) }) {
      lengths.append(text.count)
      distinct.insert(text.hashValue)
    }
    captionCharacters = Distribution(lengths)
    distinctCaptions = distinct.count
    first = try all.prefix(examples).map { try Self.example(dataset, $0) }
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
    var lines = [
      "dataset      \(name)", "fingerprint  \(fingerprint)",
      "samples      \(samples) in \(Figures.count(shards, "shard")), \(Figures.bytes(fileBytes))",
      "images       \(imageBytes.least) to \(imageBytes.most) bytes, \(imageBytes.meanText)",
      "captions     \(captions), \(distinctCaptions) of them different; \(captionsPerImage.least) to "
        + "\(captionsPerImage.most) an image, \(captionsPerImage.meanText); "
        + "\(Figures.count(withoutCaption, "image")) without",
      "             \(captionCharacters.least) to \(captionCharacters.most) characters, \(captionCharacters.meanText)",
    ]
    if labeledSamples > 0 {
      // The dataset may hold images of only some of ImageNet's classes.
      let present = labels.filter(labelNames.indices.contains).map { labelNames[$0] }
      let names = present.isEmpty ? "" : ": " + present.prefix(8).joined(separator: ", ")
      let more = present.count > 8 ? ", …" : ""
      lines.append("labels       \(distinctLabels) on \(Figures.count(labeledSamples, "image"))\(names)\(more)")
    }
    for example in first {
      let label = example.label.map { number in
        ", label \(number)\(labelNames.indices.contains(number) ? " \(labelNames[number])" : "")"
      }
      lines.append("\n\(example.key): \(example.image), \(example.bytes) bytes\(label ?? "")")
      lines += example.captions.map { "  " + $0 }
    }
    return lines.joined(separator: "\n")
  }
}
