internal import Foundation
public import Tensor

/// A checkpoint whose parts are all verified: each exists and has the size and checksum in the manifest.
public struct Checkpoint: Sendable {
  /// The folder, with symbolic links resolved.
  public let folder: String
  public let manifest: CheckpointManifest

  /// The SHA-256 of the manifest, which contains the checksums of all parts.
  public var sha256: String {
    get throws { try OpenFile.reading("\(folder)/\(CheckpointManifest.file)").sha256() }
  }

  /// Opens a checkpoint after verifying all of it. With a communicator every rank must call it; each verifies its share
  /// of the parts, and all get the same result.
  ///
  /// - Throws: a `CheckpointError` that names every part that is missing, truncated or altered; `MPIError`.
  public static func open(_ folder: String, communicator: Communicator? = nil) throws -> Checkpoint {
    let folder = resolved(folder)
    var verdict = Verdict()
    var manifest: CheckpointManifest?
    do throws(CheckpointError) {
      let found = try CheckpointManifest.read(folder)
      manifest = found
      let rank = communicator?.rank ?? 0
      for index in stride(from: rank, to: found.parts.count, by: communicator?.size ?? 1) {
        verdict.add(problem(of: found.parts[index], in: folder))
      }
    } catch { verdict = Verdict(problems: error.problems, status: error.status) }
    if let communicator { verdict = try verdict.merged(over: communicator) }
    guard let manifest, verdict.problems.isEmpty else {
      throw CheckpointError(folder, verdict.problems, status: verdict.status)
    }
    return Checkpoint(folder: folder, manifest: manifest)
  }

  /// Finds the checkpoint to resume a run from: the one marked `latest` if it is sound, otherwise the newest sound one.
  /// With a communicator every rank must call it.
  ///
  /// - Returns: the checkpoint, or nil if there is none; and an error for each checkpoint that was passed over.
  public static func newestSound(
    in runFolder: String, communicator: Communicator? = nil
  ) throws -> (found: Checkpoint?, unsound: [CheckpointError]) {
    let folders = CheckpointFolders(run: runFolder)
    let names = try communicator?.broadcast { folders.candidates() } ?? folders.candidates()
    var unsound: [CheckpointError] = []
    for name in names {
      do {
        return (try open(folders.path(name), communicator: communicator), unsound)
      } catch let error as CheckpointError { unsound.append(error) }
    }
    return (nil, unsound)
  }

  /// Returns the path without symbolic links, so that it stays valid if `latest` moves, and without a final slash.
  private static func resolved(_ folder: String) -> String {
    let path = URL(filePath: folder, directoryHint: .isDirectory).resolvingSymlinksInPath().path(percentEncoded: false)
    return path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
  }

  /// Verifies a part. Returns the problem with its status, or nil if the part is sound.
  private static func problem(of part: CheckpointManifest.Part, in folder: String) -> (String, ExitStatus)? {
    do throws(FileError) {
      let path = "\(folder)/\(part.file)"
      guard FileManager.default.fileExists(atPath: path) else { return ("\(part.file) is missing", .badData) }
      let file = try OpenFile.reading(path)
      let bytes = try file.size()
      guard bytes == part.bytes else { return ("\(part.file) has \(bytes) bytes, expected \(part.bytes)", .badData) }
      let found = try file.sha256()
      guard found == part.sha256 else {
        return ("\(part.file) was altered: its SHA-256 is \(found), expected \(part.sha256)", .badData)
      }
      return nil
    } catch { return ("\(error)", .inputOutput) }
  }
}

// MARK: Reading into an arena

extension Checkpoint {
  /// Fills an arena with the parameters by name, whatever layout and number of ranks they were written with.
  ///
  /// - Parameters:
  ///   - entries: the parameters in the arena.
  ///   - values: the whole arena. Gaps between entries are left alone.
  ///   - owner: the checkpoint may hold parameters of this owner that the arena lacks. Nil allows none.
  ///   - averaged: if true, reads the moving average of the parameters in place of the parameters themselves.
  /// - Throws: a `CheckpointError` if there is no average, or one that lists every parameter that is missing,
  ///   unexpected or of another shape.
  public func readValues(
    _ entries: [NamedSlice], into values: Tensor<Float>, leaving owner: NamedSlice.Owner? = nil, averaged: Bool = false
  ) throws(CheckpointError) {
    try readValues(entries, range: 0..<values.count, into: values, leaving: owner, averaged: averaged)
  }

  /// Does the same on all ranks of a communicator: each reads its share once, and then the shares are all-gathered.
  /// Every rank must call it with the same entries. A gap between entries gets the numbers of the rank whose share it
  /// is in.
  ///
  /// - Throws: the same errors; `MPIError`.
  public func readValues(
    _ entries: [NamedSlice], into values: Tensor<Float>, over communicator: Communicator,
    leaving owner: NamedSlice.Owner? = nil, averaged: Bool = false
  ) throws {
    let ranges = communicator.slices(of: values.count)
    let own = ranges[communicator.rank]
    try readValues(entries, range: own, into: values.slice(own), leaving: owner, averaged: averaged)
    if communicator.size > 1 { try communicator.allGather(partsOf: values, ranges: ranges) }
  }

  /// Fills one range of an arena, and reads no more than that.
  ///
  /// - Parameters:
  ///   - entries: the parameters in the whole arena.
  ///   - range: the range of the arena to fill.
  ///   - values: the `range.count` scalars of that range.
  /// - Throws: the same errors, also for parameters outside of the range.
  public func readValues(
    _ entries: [NamedSlice], range: Range<Int>, into values: Tensor<Float>, leaving owner: NamedSlice.Owner? = nil,
    averaged: Bool = false
  ) throws(CheckpointError) {
    try read(averaged ? .average : .parameters, entries, [range], into: values, leaving: owner)
  }

  /// Fills AdamW's moments of some ranges of an arena, and reads no more than these.
  ///
  /// - Parameters:
  ///   - entries: the parameters in the whole arena.
  ///   - ranges: the ranges of the arena to which the moments belong.
  ///   - first: the first moments of the ranges, end to end.
  ///   - second: the second moments, likewise.
  public func readMoments(
    _ entries: [NamedSlice], ranges: [Range<Int>], first: Tensor<Float>, second: Tensor<Float>
  ) throws(CheckpointError) {
    try read(.moment1, entries, ranges, into: first)
    try read(.moment2, entries, ranges, into: second)
  }

  /// Fills `average` with the moving average of some ranges of an arena, end to end, and reads no more than these.
  public func readAverage(
    _ entries: [NamedSlice], ranges: [Range<Int>], into average: Tensor<Float>
  ) throws(CheckpointError) {
    try read(.average, entries, ranges, into: average)
  }

  private func read(
    _ group: CheckpointPart.Group, _ entries: [NamedSlice], _ ranges: [Range<Int>], into target: Tensor<Float>,
    leaving owner: NamedSlice.Owner? = nil
  ) throws(CheckpointError) {
    precondition(target.count == ranges.reduce(0) { $0 + $1.count }, "\(target.shape) for \(ranges)")
    if group == .average, !manifest.isAveraged {
      throw CheckpointError(folder, ["it holds no moving average of the weights: its run had no ema"])
    }
    let problems = mismatches(entries, leaving: owner)
    guard problems.isEmpty else { throw CheckpointError(folder, problems) }
    let indices = Dictionary(uniqueKeysWithValues: manifest.parameters.enumerated().map { ($1.name, $0) })
    // In the checkpoint's own order, parts are opened one after another.
    let ordered = entries.compactMap { entry in indices[entry.name].map { (entry, index: $0) } }
      .sorted { $0.index < $1.index }
    let reader = CheckpointReader(self)
    var start = 0
    for range in ranges {
      for (entry, index) in ordered {
        let shared = entry.range.clamped(to: range)
        guard !shared.isEmpty else { continue }
        let place = start - range.lowerBound
        try reader.read(
          group, index, shared.lowerBound - entry.offset..<shared.upperBound - entry.offset,
          into: target.slice(shared.lowerBound + place..<shared.upperBound + place))
      }
      start += range.count
    }
  }

  /// Lists every parameter that is missing, unexpected or of another shape than in an arena of these entries. The
  /// checkpoint may hold parameters of `owner` that the arena lacks.
  public func mismatches(_ entries: [NamedSlice], leaving owner: NamedSlice.Owner? = nil) -> [String] {
    let stored = Dictionary(uniqueKeysWithValues: manifest.parameters.map { ($0.name, $0.shape) })
    let expected = Set(entries.map(\.name))
    var problems: [String] = []
    for entry in entries {
      guard let shape = stored[entry.name] else {
        problems.append("parameter \(entry.name) \(entry.shape) is missing")
        continue
      }
      if shape != entry.shape.array {
        problems.append("parameter \(entry.name) has the shape \(shape), the model expects \(entry.shape)")
      }
    }
    for parameter in manifest.parameters where !expected.contains(parameter.name) {
      if let owner, NamedSlice.Owner(of: parameter.name) == owner { continue }
      problems.append("parameter \(parameter.name) \(parameter.shape) is not in the model")
    }
    return problems
  }
}

/// The problems that a rank found.
private struct Verdict: Codable {
  var problems: [String] = []
  var status: ExitStatus = .badData

  mutating func add(_ finding: (problem: String, status: ExitStatus)?) {
    guard let finding else { return }
    problems.append(finding.problem)
    if finding.status.rawValue > status.rawValue { status = finding.status }
  }

  /// Returns the problems of all ranks in rank order, each once. Every rank must call it.
  func merged(over communicator: Communicator) throws -> Verdict {
    var merged = Verdict()
    for other in try communicator.allGather(self) {
      for problem in other.problems where !merged.problems.contains(problem) {
        merged.add((problem, other.status))
      }
    }
    return merged
  }
}

// MARK: Scalars

/// Reads scalars of one checkpoint by parameter, whatever parts hold them. It keeps the last few parts open.
final class CheckpointReader {
  private let checkpoint: Checkpoint
  private let places: [[CheckpointManifest.Place]]
  private var open: [(part: Int, file: HDF5File)] = []
  private static let mostOpen = 8

  init(_ checkpoint: Checkpoint) {
    self.checkpoint = checkpoint
    places = checkpoint.manifest.places()
  }

  /// Fills `target` with a range of the scalars of parameter number `parameter`, and reads no more than these.
  func read(
    _ group: CheckpointPart.Group, _ parameter: Int, _ elements: Range<Int>, into target: Tensor<Float>
  ) throws(CheckpointError) {
    precondition(target.count == elements.count, "\(target.shape) for \(elements)")
    try CheckpointError.naming(checkpoint.folder) {
      let name = group.dataset(checkpoint.manifest.parameters[parameter].name)
      for place in places[parameter] {
        let shared = place.range.clamped(to: elements)
        guard !shared.isEmpty else { continue }
        let first = place.row + shared.lowerBound - place.range.lowerBound
        try file(place.part).dataset(name).read(
          into: target.slice(shared.lowerBound - elements.lowerBound..<shared.upperBound - elements.lowerBound),
          rows: first..<first + shared.count)
      }
    }
  }

  private func file(_ part: Int) throws -> HDF5File {
    if let known = open.first(where: { $0.part == part }) { return known.file }
    if open.count == Self.mostOpen { open.removeFirst() }
    let file = try HDF5File.open("\(checkpoint.folder)/\(checkpoint.manifest.parts[part].file)")
    open.append((part, file))
    return file
  }
}

// MARK: Errors

/// A checkpoint that cannot be written or used, with all its problems.
public struct CheckpointError: Error, ExitCoded, Hashable, CustomStringConvertible {
  public let folder: String
  /// The problems, one sentence each; never empty.
  public let problems: [String]
  /// 65 if the stored contents are wrong, 74 if the system reports an error.
  public let status: ExitStatus

  init(_ folder: String, _ problems: [String], status: ExitStatus = .badData) {
    self.folder = folder
    self.problems = problems
    self.status = status
  }

  public var description: String {
    problems.count == 1
      ? "checkpoint \(folder): \(problems[0])"
      : "checkpoint \(folder):" + problems.map { "\n  \($0)" }.joined()
  }

  /// Runs `body` and converts a failure of the system or of the HDF5 library to an error of this checkpoint.
  static func naming<R>(_ folder: String, _ body: () throws -> R) throws(CheckpointError) -> R {
    do {
      return try body()
    } catch let error as CheckpointError {
      throw error
    } catch { throw CheckpointError(folder, ["\(error)"], status: .inputOutput) }
  }
}
