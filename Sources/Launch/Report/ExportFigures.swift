import Dist
import Foundation

/// The figures of the forms in which a run is exported, and of its teachers beside them: what `scripts/bench export`
/// measures, and the file `exports.json` in the run's folder. This is the only declaration of that file's schema.
struct ExportFigures: Codable, Equatable {
  static let schema = "kinship/exports/1"
  static let file = "exports.json"
  /// The same figures as a table in Markdown, and as a plot of accuracy against latency.
  static let (table, plot) = ("exports.md", "exports.svg")
  /// The most forms, and the most figures of a form, that a file may have.
  private static let most = 64

  /// One form of a model, with the program that runs it.
  struct Form: Codable, Equatable {
    /// The name in tables, such as `ONNX int8`.
    var name: String
    /// True for one of the run's teachers, false for the run's own model.
    var isTeacher: Bool
    /// The program with its version, such as `onnxruntime 1.20.1`.
    var program: String
    /// The size of the files of weights, and the most memory of a process that has loaded them and embedded single
    /// images and captions.
    var bytes, peakBytes: Int
    /// The latency of one image and of one caption on one core.
    var image, caption: MeasuredLatency
    /// The rates on all cores, of batches.
    var imagesPerSecond, captionsPerSecond: Double
    /// The shares, 0 to 1, by evaluation and figure as the run's log names them: `retrieval val`, `i2t R@1`.
    var accuracy: [String: [String: Double]]

    enum CodingKeys: String, CodingKey {
      case name, program, bytes, accuracy
      case isTeacher = "teacher"
      case peakBytes = "peak_bytes"
      case image = "image_ms"
      case caption = "caption_ms"
      case imagesPerSecond = "images_per_s"
      case captionsPerSecond = "captions_per_s"
    }
  }

  var schema: String
  /// The run's name, and the steps after which it was exported, if they are known.
  var run: String
  var step: Int?
  /// When it was measured (ISO 8601), on which processor, and on how many cores of it the rates were measured.
  var time, processor: String
  var cores: Int
  /// The side of an image, the tokens of a caption with both ends, and the items of a batch.
  var imageSize, captionTokens, batch: Int
  var forms: [Form]

  enum CodingKeys: String, CodingKey {
    case schema, run, step, time, processor, cores, batch, forms
    case imageSize = "image_size"
    case captionTokens = "caption_tokens"
  }

  /// Reads a file. Throws a `UserError` that names it if it is not what it should be.
  init(_ path: String) throws {
    let text = try TextFile.json(path)
    do { self = try JSONDecoder().decode(Self.self, from: Data(text.utf8)) } catch {
      throw Self.refusal(path, error.explanation)
    }
    if let problem { throw Self.refusal(path, problem) }
  }

  /// Reads the figures of a run's folder; nil if nobody has measured them.
  init?(ofRun folder: URL) throws {
    let path = folder.appending(path: Self.file).relativePath
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    try self.init(path)
  }

  private static func refusal(_ path: String, _ reason: String) -> UserError {
    UserError(
      path, "does not hold the figures of exported forms: \(reason); measure them again with scripts/bench export RUN")
  }

  /// The first thing that is wrong with the values; nil if nothing is.
  private var problem: String? {
    if schema != Self.schema { return "its schema is “\(schema)”, and this program reads “\(Self.schema)”" }
    if !(1...Self.most ~= forms.count) { return "it has \(forms.count) forms, expected 1 to \(Self.most)" }
    if Set(forms.map(\.name)).count < forms.count { return "two forms have the same name" }
    if min(cores, imageSize, captionTokens, batch) < 1 { return "cores, sizes and batch are at least 1" }
    return forms.lazy.compactMap(\.problem).first
  }

  /// Writes the figures into a run's folder, as JSON, as a table and as a plot.
  func write(to folder: URL) throws {
    try writeJSON(to: folder.appending(path: Self.file).relativePath)
    let table = ExportTable(self)
    for (name, text) in [(Self.table, table.markdown), (Self.plot, table.plot)] {
      try ModelFiles.write(Data(text.utf8), to: folder.appending(path: name))
    }
  }
}

extension ExportFigures.Form {
  fileprivate var problem: String? {
    let shares = accuracy.values.flatMap(\.values)
    if name.isEmpty { return "a form has no name" }
    if min(bytes, peakBytes) < 1 { return "the form “\(name)” has no bytes" }
    let latencies = [image, caption]
    if latencies.contains(where: { !($0.median > 0) || !($0.p99 >= $0.median) || $0.repetitions < 1 }) {
      return "a latency of the form “\(name)” is not above 0, or its 99th percentile is below its median"
    }
    if ![imagesPerSecond, captionsPerSecond].allSatisfy({ $0 > 0 }) { return "a rate of “\(name)” is not above 0" }
    if ([image.p99, caption.p99, imagesPerSecond, captionsPerSecond] + shares).contains(where: { !$0.isFinite }) {
      return "a figure of the form “\(name)” is not finite"
    }
    if shares.contains(where: { !(0...1 ~= $0) }) { return "an accuracy of “\(name)” is not a share of 0 to 1" }
    return shares.count > 64 ? "the form “\(name)” has more than 64 accuracies" : nil
  }
}
