internal import Foundation
public import Tensor

/// A checkpoint that was found whole: every part is there, has its size, and has its checksum.
public struct Checkpoint: Sendable {
  /// The folder, links resolved.
  public let folder: String
  public let manifest: CheckpointManifest

  /// Of its manifest, which has the checksums of all parts.
  public var sha256: String {
    get throws { try OpenFile.reading("\(folder)/\(CheckpointManifest.file)").sha256() }
  }

  /// Opens a checkpoint after all of it was verified.
  ///
  /// With a communicator all ranks call it, each verifies its share of the parts, and all get the same answer.
  ///
  /// - Throws: `CheckpointError` that names every part that is missing, truncated or altered; `MPIError`.
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

  /// The best checkpoint of a run: the one marked `latest` if it is whole, else the newest whole one.
  ///
  /// - Returns: the checkpoint, nil where there is none; and what is wrong with each that was passed over.
  public static func newestSound(
    in runFolder: String, communicator: Communicator? = nil
  ) throws -> (found: Checkpoint?, unsound: [CheckpointError]) {
    let folders = CheckpointFolders(run: runFolder)
    var names = Array(folders.candidates().joined(separator: "\n").utf8)
    try communicator?.broadcast(&names)
    var unsound: [CheckpointError] = []
    for name in String(decoding: names, as: UTF8.self).split(separator: "\n") {
      do {
        return (try open(folders.path(String(name)), communicator: communicator), unsound)
      } catch let error as CheckpointError { unsound.append(error) }
    }
    return (nil, unsound)
  }

  /// The path without links, so that a mark that moves meanwhile does not matter, and without a slash at its end.
  private static func resolved(_ folder: String) -> String {
    let path = URL(filePath: folder, directoryHint: .isDirectory).resolvingSymlinksInPath().path(percentEncoded: false)
    return path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
  }

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

// MARK: Reading

extension Checkpoint {
  /// Fills an arena with the parameters, by name, whatever layout and number of ranks they were written with.
  ///
  /// - Parameters:
  ///   - entries: what the arena holds.
  ///   - values: the whole arena; what no entry covers is left alone.
  ///   - owner: parameters of this owner may be in the checkpoint and not in the arena. Nil: none may.
  ///   - averaged: their moving average in place of the parameters themselves.
  /// - Throws: `CheckpointError` where there is no average; that lists every parameter that is missing, unexpected or
  ///   of another shape.
  public func readValues(
    _ entries: [NamedSlice], into values: Tensor<Float>, leaving owner: NamedSlice.Owner? = nil, averaged: Bool = false
  ) throws(CheckpointError) {
    try read(averaged ? .average : .parameters, entries, [0..<values.count], into: values, leaving: owner)
  }

  /// The same on all ranks of a communicator: each reads its share, once, and then the shares are exchanged. All ranks
  /// call it with the same entries; what no entry covers becomes that of the rank whose share it is.
  ///
  /// - Throws: as above; `MPIError`.
  public func readValues(
    _ entries: [NamedSlice], into values: Tensor<Float>, over communicator: Communicator,
    leaving owner: NamedSlice.Owner? = nil, averaged: Bool = false
  ) throws {
    let ranges = communicator.slices(of: values.count)
    let own = ranges[communicator.rank]
    try readValues(entries, range: own, into: values.slice(own), leaving: owner, averaged: averaged)
    if communicator.size > 1 { try communicator.allGather(partsOf: values, ranges: ranges) }
  }

  /// Fills one range of an arena with its part of the parameters, and reads no more than that.
  ///
  /// - Parameters:
  ///   - entries: what the whole arena holds.
  ///   - range: the part of the arena to fill.
  ///   - values: that part, `range.count` scalars.
  ///   - owner: as above.
  /// - Throws: as above, be a parameter in the range or not.
  public func readValues(
    _ entries: [NamedSlice], range: Range<Int>, into values: Tensor<Float>, leaving owner: NamedSlice.Owner? = nil,
    averaged: Bool = false
  ) throws(CheckpointError) {
    try read(averaged ? .average : .parameters, entries, [range], into: values, leaving: owner)
  }

  /// Fills the moments of some ranges of the arena, and reads no more than these.
  ///
  /// - Parameters:
  ///   - entries: what the arena holds.
  ///   - ranges: the parts of the arena to which the moments belong.
  ///   - first: AdamW's first moment of the ranges, end to end.
  ///   - second: AdamW's second moment, likewise.
  public func readMoments(
    _ entries: [NamedSlice], ranges: [Range<Int>], first: Tensor<Float>, second: Tensor<Float>
  ) throws(CheckpointError) {
    try read(.moment1, entries, ranges, into: first)
    try read(.moment2, entries, ranges, into: second)
  }

  /// Fills the moving average of some ranges of the arena, and reads no more than these.
  ///
  /// - Parameters:
  ///   - entries: what the arena holds.
  ///   - average: of the ranges, end to end.
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
    // In the checkpoint's own order parts are opened one after another.
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

  /// Every parameter that is missing, unexpected or of another shape than in an arena of these entries; those of
  /// `owner` may be in the checkpoint alone.
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

/// What a rank found wrong.
private struct Verdict: Codable {
  var problems: [String] = []
  var status: ExitStatus = .badData

  mutating func add(_ finding: (problem: String, status: ExitStatus)?) {
    guard let finding else { return }
    problems.append(finding.problem)
    if finding.status.rawValue > status.rawValue { status = finding.status }
  }

  /// Everything that any rank found, once, in rank order.
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
