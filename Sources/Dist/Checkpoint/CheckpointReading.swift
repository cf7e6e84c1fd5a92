public import Tensor

extension Checkpoint {
  /// Fills an arena, or one range of it, with the parameters by name, or with their moving average. The checkpoint may
  /// have more of `owner`. Throws a `CheckpointError` that lists all that is missing, unexpected or of another shape.
  public func readValues(
    _ entries: [NamedSlice], range: Range<Int>? = nil, into values: Tensor<Float>,
    leaving owner: NamedSlice.Owner? = nil, averaged: Bool = false
  ) throws(CheckpointError) {
    let group = averaged ? CheckpointPart.Group.average : .parameters
    try read([Wanted(group: group, ranges: [range ?? 0..<values.count], target: values)], entries, leaving: owner)
  }

  /// Does the same on all ranks, which must give the same entries: each reads its share once, and then the shares are
  /// all-gathered. A gap between entries gets the numbers of the rank whose share it is in.
  public func readValues(
    _ entries: [NamedSlice], into values: Tensor<Float>, over communicator: Communicator,
    leaving owner: NamedSlice.Owner? = nil, averaged: Bool = false
  ) throws {
    let ranges = communicator.slices(of: values.count)
    let own = ranges[communicator.rank]
    try readValues(entries, range: own, into: values.slice(own), leaving: owner, averaged: averaged)
    if communicator.size > 1 { try communicator.allGather(partsOf: values, ranges: ranges) }
  }

  /// Fills the state of a rank that owns some ranges of an arena: these ranges of `values`, which is the whole arena,
  /// their moments, end to end, and likewise the average of the ranges that it has, if there is one. Only parts that
  /// hold these numbers are opened, each once. Returns what was read.
  public func readState(
    _ entries: [NamedSlice], ranges: [Range<Int>], values: Tensor<Float>, first: Tensor<Float>, second: Tensor<Float>,
    average: (ranges: [Range<Int>], values: Tensor<Float>)? = nil
  ) throws(CheckpointError) -> CheckpointReads {
    var wanted = ranges.map { Wanted(group: .parameters, ranges: [$0], target: values.slice($0)) }
    wanted.append(Wanted(group: .moment1, ranges: ranges, target: first))
    wanted.append(Wanted(group: .moment2, ranges: ranges, target: second))
    if let average { wanted.append(Wanted(group: .average, ranges: average.ranges, target: average.values)) }
    return try read(wanted, entries)
  }

  /// Ranges of an arena that are read into `target`, end to end.
  private struct Wanted {
    let group: CheckpointPart.Group
    let ranges: [Range<Int>]
    let target: Tensor<Float>
  }

  @discardableResult
  private func read(
    _ wanted: [Wanted], _ entries: [NamedSlice], leaving owner: NamedSlice.Owner? = nil
  ) throws(CheckpointError) -> CheckpointReads {
    if wanted.contains(where: { $0.group == .average }), !manifest.isAveraged {
      throw CheckpointError(folder, ["it holds no moving average of the weights: its run had no ema"])
    }
    try require(entries, leaving: owner)
    let indices = Dictionary(uniqueKeysWithValues: manifest.parameters.enumerated().map { ($1.name, $0) })
    let known = entries.compactMap { entry in indices[entry.name].map { (entry, index: $0) } }
    let reader = CheckpointReader(self)
    var pieces: [CheckpointReader.Piece] = []
    for item in wanted {
      precondition(item.target.count == item.ranges.total, "\(item.target.shape) for \(item.ranges)")
      for (range, place) in zip(item.ranges, item.ranges.map(\.count).endToEnd) {
        for (entry, index) in known {
          let shared = entry.range.clamped(to: range)
          guard !shared.isEmpty else { continue }
          let target = item.target.slice(shared.moved(by: place.lowerBound - range.lowerBound))
          pieces += reader.pieces(item.group, index, shared.moved(by: -entry.offset), into: target)
        }
      }
    }
    try reader.read(pieces)
    return reader.reads
  }

  /// Throws a `CheckpointError` that lists all `mismatches` if there are any.
  public func require(_ entries: [NamedSlice], leaving owner: NamedSlice.Owner? = nil) throws(CheckpointError) {
    let problems = mismatches(entries, leaving: owner)
    guard problems.isEmpty else { throw CheckpointError(folder, problems) }
  }

  /// Lists every parameter that is missing, unexpected unless it is of `owner`, or of another shape than in an arena.
  public func mismatches(_ entries: [NamedSlice], leaving owner: NamedSlice.Owner? = nil) -> [String] {
    let stored = Dictionary(uniqueKeysWithValues: manifest.parameters.map { ($0.name, $0.shape) })
    let expected = Set(entries.map(\.name))
    let problems: [String] = entries.compactMap { entry in
      guard let shape = stored[entry.name] else { return "parameter \(entry.name) \(entry.shape) is missing" }
      guard shape != entry.shape.array else { return nil }
      return "parameter \(entry.name) has the shape \(shape), the model expects \(entry.shape)"
    }
    let unexpected = manifest.parameters.filter {
      !expected.contains($0.name) && (owner == nil || NamedSlice.Owner(of: $0.name) != owner)
    }
    return problems + unexpected.map { "parameter \($0.name) \($0.shape) is not in the model" }
  }
}

/// What was read of a checkpoint: how often a part was opened, and the bytes of its numbers.
public struct CheckpointReads: Equatable, Sendable {
  public internal(set) var parts = 0
  public internal(set) var bytes = 0
}

/// Reads scalars of one checkpoint by parameter, whatever parts hold them. It keeps the last few parts open.
final class CheckpointReader {
  /// Consecutive scalars of a parameter that one part holds: some rows of a data set.
  struct Piece {
    let part: Int
    let dataset: String
    let rows: Range<Int>
    let target: Tensor<Float>
  }

  private(set) var reads = CheckpointReads()
  private let checkpoint: Checkpoint
  private let places: [[CheckpointManifest.Place]]
  private var open: [(part: Int, file: HDF5File)] = []
  private static let mostOpen = 8

  init(_ checkpoint: Checkpoint) {
    self.checkpoint = checkpoint
    places = checkpoint.manifest.places()
  }

  /// Returns the pieces of a range of the scalars of parameter number `parameter`, which are to be read into `target`.
  func pieces(
    _ group: CheckpointPart.Group, _ parameter: Int, _ elements: Range<Int>, into target: Tensor<Float>
  ) -> [Piece] {
    precondition(target.count == elements.count, "\(target.shape) for \(elements)")
    let name = group.dataset(checkpoint.manifest.parameters[parameter].name)
    return places[parameter].compactMap { place in
      let shared = place.range.clamped(to: elements)
      guard !shared.isEmpty else { return nil }
      return Piece(
        part: place.part, dataset: name, rows: shared.moved(by: place.row - place.range.lowerBound),
        target: target.slice(shared.moved(by: -elements.lowerBound)))
    }
  }

  /// Reads pieces and no more than these, part by part, so that each part is opened once.
  func read(_ pieces: [Piece]) throws(CheckpointError) {
    try CheckpointError.naming(checkpoint.folder) {
      for piece in pieces.sorted(by: { $0.part < $1.part }) {
        try file(piece.part).dataset(piece.dataset).read(into: piece.target, rows: piece.rows)
        reads.bytes += piece.rows.count * MemoryLayout<Float>.stride
      }
    }
  }

  private func file(_ part: Int) throws -> HDF5File {
    if let known = open.first(where: { $0.part == part }) { return known.file }
    if open.count == Self.mostOpen { open.removeFirst() }
    let file = try HDF5File.open("\(checkpoint.folder)/\(checkpoint.manifest.parts[part].file)")
    reads.parts += 1
    open.append((part, file))
    return file
  }
}
