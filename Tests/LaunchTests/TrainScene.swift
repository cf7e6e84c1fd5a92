import Dist
import Foundation
import Tensor
import TestSupport
import Testing

@testable import Launch

/// What a training run needs, made by the commands that users make it with: a dataset imported from a table of images,
/// a vocabulary learned from it, and a run file of a tiny model.
///
/// 23 images in three shards and 7 pairs in a step: three steps an epoch, and neither 2 nor 3 ranks divide a step.
final class TrainScene: Sendable {
  let folder: TemporaryFolder

  var dataset: String { folder.path("corpus") }
  var vocabulary: String { folder.path("vocabulary.txt.gz") }
  /// A smaller vocabulary of the same captions.
  var words: String { folder.path("words.txt.gz") }
  var runFile: String { folder.path("run.yaml") }

  /// Copies what the first scene had the commands make, for they make the same every time.
  init(in folder: TemporaryFolder? = nil) async throws {
    self.folder = try folder ?? TemporaryFolder()
    let folder = self.folder
    let made = try await Self.made.value
    for name in ["pictures", "table.csv", "corpus", "vocabulary.txt.gz", "words.txt.gz"] {
      try FileManager.default.copyItem(atPath: made.path(name), toPath: folder.path(name))
    }
    try folder.write("run.yaml", Self.run(dataset: dataset, vocabulary: vocabulary, output: folder.path("runs")).utf8)
  }

  private static let made = Task { try await make() }

  private static func make() async throws -> TemporaryFolder {
    let folder = try TemporaryFolder.untilExit()
    let dataset = folder.path("corpus")
    let classes = ["circle", "square", "stripe"]
    let colors = ["red", "green", "blue", "gray"]
    var table = "filepath,title,keywords,kind\n"
    for index in 0..<23 {
      var random = KeyedRandom(seed: 11, purpose: "picture", UInt64(index))
      let (width, height) = (random.below(12) + 12, random.below(12) + 12)
      let (kind, color) = (index % classes.count, random.below(colors.count))
      let rgb = (0..<width * height).flatMap { at in
        let (x, y) = (at % width, at / width)
        let inside = [abs(x - 9) + abs(y - 9) < 8, x > 3 && y > 3 && x < 14 && y < 14, x / 3 % 2 == 0][kind]
        return (0..<3).map { channel in
          let bright = inside && (color == channel || color == 3)
          return UInt8((bright ? 200 : 40) + random.below(40))
        }
      }
      try folder.write("pictures/\(index).png", PNGImage.encode(width: width, height: height, rgb: rgb))
      table +=
        "pictures/\(index).png,a \(colors[color]) \(classes[kind]),number \(index) \(classes[kind]),\(classes[kind])\n"
    }
    try folder.write("table.csv", table.utf8)
    for command in [
      [
        "dataset", "import", folder.path("table.csv"), "--output", dataset, "--shard-samples", "8",
        "--caption-columns", "title,keywords", "--label-column", "kind",
      ], ["vocabulary", "train", dataset, "--merges", "40", "--output", folder.path("vocabulary.txt.gz")],
      ["vocabulary", "train", dataset, "--merges", "20", "--output", folder.path("words.txt.gz")],
    ] {
      let run = try await MPIRun.kinship(command, ranks: nil)
      try #require(run.status == 0, "\(run)")
    }
    return folder
  }

  private static func run(dataset: String, vocabulary: String, output: String) -> String {
    """
    name: tiny
    output: "\(output)"
    seed: 3
    steps: 10
    model:
      embed_dim: 16
      vision_cfg: {image_size: 16, patch_size: 8, width: 32, layers: 2, head_width: 16}
      text_cfg: {context_length: 8, vocab_size: 0, width: 32, heads: 2, layers: 2}
    data: {datasets: ["\(dataset)"], workers: 1}
    vocabulary: "\(vocabulary)"
    image: {scale: [0.5, 1.0], mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3]}
    batch: {global: 7}
    optimizer: {learning_rate: 5e-4, warmup: 2}
    log: {every: 1}

    """
  }

  /// Writes a dataset of the same name with the same samples in another order, as a stale or remade copy may have it.
  func writeReorderedDataset(to folder: String) throws {
    let dataset = try Dataset.open(dataset)
    var writer = try DatasetWriter(name: dataset.name, folder: folder)
    for sample in (0..<dataset.count).reversed() {
      try writer.append(
        DatasetSample(image: dataset.image(sample), captions: dataset.captions(sample), key: dataset.key(sample)))
    }
    _ = try writer.finish()
  }

  /// Runs `kinship train` with values set; whatever comes of it.
  func run(
    _ values: [String] = [], _ options: [String] = [], ranks: Int?, environment: [String: String] = [:]
  ) async throws -> MPIRun {
    try await MPIRun.kinship(
      ["train", runFile] + values.flatMap { ["--set", $0] } + options, ranks: ranks, environment: environment)
  }

  /// Trains to the end under a name; returns the loss of every step.
  @discardableResult
  func train(
    _ name: String, _ values: [String] = [], _ options: [String] = [], ranks: Int?
  ) async throws -> [Double] {
    let run = try await run(["name=\(name)"] + values, options, ranks: ranks)
    try #require(run.status == 0, "\(run)")
    return try losses(name)
  }

  func runFolder(_ name: String) -> URL { folder.url.appending(path: "runs/\(name)", directoryHint: .isDirectory) }

  /// The log's lines of one event.
  func log(_ name: String, _ event: String) throws -> [LogLine] {
    let text = try String(contentsOf: runFolder(name).appending(path: RunLog.fileName), encoding: .utf8)
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try text.split(separator: "\n").map { try decoder.decode(LogLine.self, from: Data($0.utf8)) }
      .filter { $0.event == event }
  }

  /// The loss of every step that is in the log; the later line counts.
  func losses(_ name: String) throws -> [Double] {
    var losses: [Int: Double] = [:]
    for line in try log(name, "step") { losses[line.step] = line.loss }
    return losses.sorted { $0.key < $1.key }.map(\.value)
  }

  func checkpoint(_ name: String, _ step: Int) -> URL {
    runFolder(name).appending(path: "checkpoints/step-" + String(format: "%08d", step), directoryHint: .isDirectory)
  }

  /// The checksums of a checkpoint's parts: the parameters, moments and averages of every rank, to the bit.
  func parts(_ name: String, _ step: Int) throws -> [String] {
    try Checkpoint.open(checkpoint(name, step).path).manifest.parts.map(\.sha256)
  }
}

/// What tests read of a line of `log.jsonl`.
struct LogLine: Decodable {
  var event: String
  var step: Int
  var loss: Double?
  var logitScale: Double?
  var changes: [String]?
  var evaluation: String?
  var figures: [String: Double]?
  var note: String?
  var rate: Double?
  var receivedBytes: Int?
  var pruning: Pruning?
  var blockedSeconds: Double?
  var writtenSeconds: Double?
  var facts: [RunHeader.Fact]?
  var memoryMeasured: Int?

  struct Pruning: Decodable {
    var expected: Double
    var target: Double
  }
}

/// The largest difference of two lists, relative to the numbers of the second; infinite where one is longer.
func difference(_ some: [Double], _ others: [Double]) -> Double {
  guard some.count == others.count else { return .infinity }
  return zip(some, others).map { abs($0 - $1) / abs($1) }.max() ?? .infinity
}
