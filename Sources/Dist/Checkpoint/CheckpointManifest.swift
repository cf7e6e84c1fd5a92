internal import Foundation
internal import Tensor

/// The list of what a checkpoint holds: `manifest.json`. It is written last, so a folder with one is complete.
///
/// Positions count scalars of the parameters laid end to end in the order of `parameters`: no gaps, whatever the
/// arena looked like, so that any other layout can be filled from it.
public struct CheckpointManifest: Codable, Hashable, Sendable {
  public struct Parameter: Codable, Hashable, Sendable {
    public let name: String
    public let shape: [Int]
  }

  /// One rank's file.
  public struct Part: Codable, Hashable, Sendable {
    public let file: String
    /// The positions that it holds, rising.
    public let ranges: [Range<Int>]
    public let bytes: Int
    /// Of the whole file, in hexadecimal digits.
    public let sha256: String
  }

  /// What a checkpoint that was written again with other parts was made from.
  public struct Origin: Codable, Hashable, Sendable {
    public let folder: String
    /// Of its manifest.
    public let sha256: String
    /// How many ranks the job had that trained it.
    public let ranks: Int
    /// The version of Kinship that wrote it again.
    public let version: String
  }

  /// Consecutive scalars of one parameter that lie in one part.
  struct Place {
    /// Which of the parameter's scalars.
    let range: Range<Int>
    let part: Int
    /// Where they begin in the part's data set of the parameter.
    let row: Int
  }

  /// The manifest's name in a checkpoint's folder.
  public static let file = "manifest.json"
  /// Holds the manifest's own SHA-256, in the form that `sha256sum --check` reads.
  static let digestFile = "manifest.sha256"
  static let currentFormat = 2

  /// The version of this format.
  public let format: Int
  public let record: CheckpointRecord
  public let parameters: [Parameter]
  /// One a rank of the job that wrote it, in rank order.
  public let parts: [Part]
  /// Nil for what a job in training wrote itself.
  public var origin: Origin?
  /// True where each part holds the moving average of its scalars, too; nil where none does.
  var ema: Bool?

  public var isAveraged: Bool { ema ?? false }

  /// How many ranks the job had that trained it.
  public var ranks: Int { origin?.ranks ?? parts.count }

  /// How many scalars the parameters have.
  var count: Int { parameters.reduce(0) { $0 + $1.shape.reduce(1, *) } }

  static func partFile(_ rank: Int, of ranks: Int) -> String {
    "part-\(digits(rank, 5))-of-\(digits(ranks, 5)).h5"
  }

  static func digits(_ number: Int, _ width: Int) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(width - text.count, 0)) + text
  }

  /// Where the scalars of each parameter are, in their order.
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
          found.append(Place(range: shared.lowerBound - start..<shared.upperBound - start, part: part, row: row))
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

  /// What of each parameter lies in the positions.
  func slices(_ positions: Range<Int>) -> [CheckpointPart.Slice] {
    var start = 0
    return parameters.compactMap { parameter in
      let shape = Shape(parameter.shape) ?? Shape()
      let shared = positions.clamped(to: start..<start + shape.count)
      defer { start += shape.count }
      guard !shared.isEmpty else { return nil }
      let own = shared.lowerBound - start..<shared.upperBound - start
      return CheckpointPart.Slice(name: parameter.name, shape: shape, ranges: [own])
    }
  }

  /// The same checkpoint in other parts.
  func resharded(_ parts: [Part], origin: Origin) -> CheckpointManifest {
    CheckpointManifest(format: format, record: record, parameters: parameters, parts: parts, origin: origin, ema: ema)
  }

  /// Writes the manifest and its digest into `folder`, and brings both to the disk.
  func write(into folder: String) throws(FileError) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = Self.encodingOfNonFinite
    let text: [UInt8]
    do {
      text = Array(try encoder.encode(self)) + Array("\n".utf8)
    } catch { throw FileError(action: "encode", path: "\(folder)/\(Self.file)", reason: "\(error)") }
    let digest = "\(SHA256.hash(text).hexadecimal)  \(Self.file)\n"
    for (name, bytes) in [(Self.digestFile, Array(digest.utf8)), (Self.file, text)] {
      try Publish.file("\(folder)/\(name)", raising: { $0 }, body: { file throws(FileError) in try file.append(bytes) })
    }
  }

  /// Reads the manifest of `folder` and proves that it is whole and makes sense.
  static func read(_ folder: String) throws(CheckpointError) -> CheckpointManifest {
    let (text, digest) = try CheckpointError.naming(folder) {
      (try contents("\(folder)/\(file)"), try contents("\(folder)/\(digestFile)"))
    }
    guard digest == Array("\(SHA256.hash(text).hexadecimal)  \(file)\n".utf8) else {
      throw CheckpointError(folder, ["\(file) was altered: its SHA-256 is not the one in \(digestFile)"])
    }
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    let manifest: CheckpointManifest
    do {
      manifest = try decoder.decode(CheckpointManifest.self, from: Data(text))
    } catch { throw CheckpointError(folder, ["\(file) cannot be understood: \(error)"]) }
    if let problem = manifest.problem { throw CheckpointError(folder, ["\(file): \(problem)"]) }
    return manifest
  }

  private static let encodingOfNonFinite = JSONEncoder.NonConformingFloatEncodingStrategy.convertToString(
    positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")

  /// A small file's bytes.
  private static func contents(_ path: String) throws(FileError) -> [UInt8] {
    let file = try OpenFile.reading(path)
    return try file.read(try file.size(), of: UInt8.self, at: 0)
  }

  /// What contradicts itself; nil where nothing does.
  var problem: String? {
    guard format == Self.currentFormat else {
      return "it has format \(format), this program reads \(Self.currentFormat); use the version that wrote it,"
        + " \(record.version)"
    }
    guard record.step >= 0, record.samples >= 0 else { return "step and samples are negative" }
    var names: Set<String> = []
    var total = 0
    for parameter in parameters {
      guard names.insert(parameter.name).inserted else { return "parameter \(parameter.name) is listed twice" }
      guard let count = Self.count(of: parameter.shape), count <= Int.max - total else {
        return "parameter \(parameter.name) has the shape \(parameter.shape)"
      }
      total += count
    }
    for array in record.arrays where Self.count(of: array.shape) != array.values.count {
      return "array \(array.name) has the shape \(array.shape) and \(array.values.count) values"
    }
    for (index, part) in parts.enumerated() {
      guard part.file == Self.partFile(index, of: parts.count) else {
        return "part \(index) of \(parts.count) is in \(part.file), expected \(Self.partFile(index, of: parts.count))"
      }
      guard zip(part.ranges, part.ranges.dropFirst()).allSatisfy({ $0.upperBound <= $1.lowerBound }) else {
        return "the ranges of part \(index) do not rise"
      }
    }
    var end = 0
    for range in parts.flatMap(\.ranges).sorted(by: { ($0.lowerBound, $0.upperBound) < ($1.lowerBound, $1.upperBound) })
    {
      guard range.lowerBound == end else { return "the parts' ranges overlap or leave gaps at \(end)" }
      end = range.upperBound
    }
    return end == total ? nil : "the parts hold \(end) scalars, the parameters have \(total)"
  }

  /// How many elements an array of this shape has; nil for a shape that cannot be.
  private static func count(of sizes: [Int]) -> Int? {
    guard Shape(sizes) != nil else { return nil }
    var count = 1
    for size in sizes {
      let (product, overflow) = count.multipliedReportingOverflow(by: size)
      guard !overflow else { return nil }
      count = product
    }
    return count
  }
}
