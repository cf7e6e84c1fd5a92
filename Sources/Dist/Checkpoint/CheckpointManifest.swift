internal import Foundation
internal import Tensor

/// The contents of a checkpoint, written last. Positions count the scalars of all `parameters`, laid end to end.
public struct CheckpointManifest: Codable, Hashable, Sendable {
  /// A parameter's open_clip key and its shape.
  public struct Parameter: Codable, Hashable, Sendable {
    public let name: String
    public let shape: [Int]
  }

  /// The file of a rank, or of a node's ranks.
  public struct Part: Codable, Hashable, Sendable {
    public let file: String
    /// The positions that it holds, in rising order.
    public let ranges: [Range<Int>]
    public let bytes: Int
    /// The SHA-256 of the whole file, in hexadecimal digits.
    public let sha256: String
  }

  /// The checkpoint from which another one with the same numbers but other parts was written.
  public struct Origin: Codable, Hashable, Sendable {
    public let folder: String
    /// The SHA-256 of its manifest.
    public let sha256: String
    /// The number of ranks of the job that trained it.
    public let ranks: Int
    /// The version of Kinship that wrote the other one.
    public let version: String
  }

  /// Consecutive scalars of one parameter, counted within it, that begin at a row of its data set in one part.
  typealias Place = (range: Range<Int>, part: Int, row: Int)
  /// The manifest's name in a checkpoint's folder.
  public static let file = "manifest.json"
  /// The file with the manifest's own SHA-256, in the form that `sha256sum --check` reads.
  static let digestFile = "manifest.sha256"
  static let currentFormat = 2
  /// The limit on the scalars of a checkpoint, which is that on the parameters of a model.
  private static let mostScalars = 1 << 40
  /// The version of this format.
  public let format: Int
  public let record: CheckpointRecord
  public let parameters: [Parameter]
  /// The parts, one for each rank of the job that wrote it, or for each node, in the order of the ranks.
  public let parts: [Part]
  /// The checkpoint that this one was made from; nil if a training job wrote it.
  public var origin: Origin?
  /// True if each part also holds the moving average of its scalars; nil if none does.
  var ema: Bool?
  public var isAveraged: Bool { ema ?? false }
  /// The number of ranks of the job that wrote it, if each part is that of a node; nil: one for each part.
  var jobRanks: Int?
  /// The number of ranks of the job that trained the checkpoint.
  public var ranks: Int { origin?.ranks ?? jobRanks ?? parts.count }
  var count: Int { parameters.reduce(0) { $0 + $1.shape.reduce(1, *) } }
  static func partFile(_ rank: Int, of ranks: Int) -> String { "part-\(rank.digits(5))-of-\(ranks.digits(5)).h5" }

  func places() -> [[Place]] {
    let ranges = parts.enumerated().flatMap { index, part in part.ranges.map { (range: $0, part: index) } }
      .filter { !$0.range.isEmpty }.sorted { $0.range.lowerBound < $1.range.lowerBound }
    var places: [[Place]] = []
    var (next, start) = (0, 0)
    for parameter in parameters {
      let whole = start..<start + parameter.shape.reduce(1, *)
      var found: [Place] = []
      var rows: [Int: Int] = [:]
      while next < ranges.count {
        let (range, part) = ranges[next]
        let shared = range.clamped(to: whole)
        if !shared.isEmpty {
          let row = rows[part, default: 0]
          found.append((shared.moved(by: -start), part, row))
          rows[part] = row + shared.count
        }
        guard range.upperBound <= whole.upperBound else { break }
        next += 1
      }
      places.append(found)
      start = whole.upperBound
    }
    return places
  }

  /// Returns the slices of the parameters at these positions.
  func slices(_ positions: Range<Int>) -> [CheckpointPart.Slice] {
    var start = 0
    return parameters.compactMap { parameter in
      let shape = Shape(parameter.shape) ?? Shape()
      let shared = positions.clamped(to: start..<start + shape.count)
      defer { start += shape.count }
      guard !shared.isEmpty else { return nil }
      return CheckpointPart.Slice(name: parameter.name, shape: shape, ranges: [shared.moved(by: -start)])
    }
  }

  func resharded(_ parts: [Part], origin: Origin) -> CheckpointManifest {
    CheckpointManifest(format: format, record: record, parameters: parameters, parts: parts, origin: origin, ema: ema)
  }

  func write(into folder: String) throws {
    let encoder = JSONEncoder.readable
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    let text = Array(try encoder.encode(self)) + Array("\n".utf8)
    try Publish.write(Self.digestLine(SHA256.hash(text).hexadecimal), to: "\(folder)/\(Self.digestFile)")
    try Publish.write(text, to: "\(folder)/\(Self.file)")
  }

  /// Reads the manifest in a checkpoint's folder, and returns its SHA-256 with it.
  static func read(_ folder: String) throws(CheckpointError) -> (manifest: CheckpointManifest, sha256: String) {
    var isFolder: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder) else {
      let problem = "there is no such folder or file" + BestFigure.advice(where: folder)
      throw CheckpointError(folder, [problem], status: .inputOutput)
    }
    guard isFolder.boolValue else {
      let endings = ".safetensors, .pt, .pth, .bin, .h5 or .hdf5"
      throw CheckpointError(folder, ["it is a file, not a checkpoint's folder; a file of weights ends in \(endings)"])
    }
    guard FileManager.default.fileExists(atPath: "\(folder)/\(file)") else {
      let advice = "if it holds weights under another name than usual, name their file itself"
      throw CheckpointError(folder, ["it has no \(file), so it is no checkpoint; \(advice)"], status: .inputOutput)
    }
    let (text, digest) = try CheckpointError.naming(folder) {
      (try OpenFile.contents("\(folder)/\(file)"), try OpenFile.contents("\(folder)/\(digestFile)"))
    }
    let sha256 = SHA256.hash(text).hexadecimal
    guard digest == Self.digestLine(sha256) else {
      throw CheckpointError(folder, ["\(file) was altered: its SHA-256 is not the one in \(digestFile)"])
    }
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    let manifest: CheckpointManifest
    do { manifest = try decoder.decode(CheckpointManifest.self, from: Data(text)) } catch {
      throw CheckpointError(folder, ["\(file) cannot be understood: \(error.explanation)"])
    }
    if let problem = manifest.problem { throw CheckpointError(folder, ["\(file): \(problem)"]) }
    return (manifest, sha256)
  }

  private static func digestLine(_ sha256: String) -> [UInt8] { Array("\(sha256)  \(file)\n".utf8) }

  var problem: String? {
    guard format == Self.currentFormat else {
      return "it has format \(format), this program reads \(Self.currentFormat); use the version that wrote it,"
        + " \(record.version)"
    }
    for (name, count) in [("step", record.step), ("samples", record.samples), ("passedOver", record.passedOver ?? 0)]
    where !(0...CheckpointRecord.most ~= count) {
      return "\(name) is \(count), expected 0 to \(CheckpointRecord.most)"
    }
    guard ranks >= parts.count || origin != nil else { return "it has \(parts.count) parts of \(ranks) ranks" }
    var names: Set<String> = []
    var total = 0
    for parameter in parameters {
      guard names.insert(parameter.name).inserted else { return "parameter \(parameter.name) is listed twice" }
      guard let count = Shape(parameter.shape)?.count, let sum = (Checked(total) + Checked(count)).value else {
        return "parameter \(parameter.name) has the shape \(parameter.shape)"
      }
      total = sum
    }
    guard total <= Self.mostScalars else { return "the parameters have \(total) scalars, more than 2⁴⁰" }
    for array in record.arrays where Shape(array.shape)?.count != array.values.count {
      return "array \(array.name) has the shape \(array.shape) and \(array.values.count) values"
    }
    for (index, part) in parts.enumerated() {
      guard part.file == Self.partFile(index, of: parts.count) else {
        return "part \(index) of \(parts.count) is in \(part.file), expected \(Self.partFile(index, of: parts.count))"
      }
      guard part.ranges.isRising else { return "the ranges of part \(index) do not rise" }
    }
    let ranges = parts.flatMap(\.ranges).sorted { ($0.lowerBound, $0.upperBound) < ($1.lowerBound, $1.upperBound) }
    var end = 0
    for range in ranges {
      guard range.lowerBound == end else { return "the parts' ranges overlap or leave gaps at \(end)" }
      end = range.upperBound
    }
    return end == total ? nil : "the parts hold \(end) scalars, the parameters have \(total)"
  }
}
