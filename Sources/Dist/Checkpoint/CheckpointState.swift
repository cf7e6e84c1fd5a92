public import Tensor

/// What one rank gives to a checkpoint: a flat arena, of which it owns some ranges, and the moments of these; where
/// there is one, their moving average.
public struct CheckpointState: Sendable {
  /// The parameters, by rising offset; there may be gaps between them, which are not stored.
  public let entries: [NamedSlice]
  /// This rank's parts of the arena, rising. All ranks' together hold each parameter's every scalar once.
  public let ranges: [Range<Int>]
  /// The whole arena, or this rank's parts of it end to end.
  let values: Tensor<Float>
  let isPacked: Bool
  /// AdamW's first moment of the ranges, end to end.
  public let firstMoment: Tensor<Float>
  /// AdamW's second moment, likewise.
  public let secondMoment: Tensor<Float>
  /// The moving average of the ranges' values, likewise; the same ranks have one, or none has.
  public let average: Tensor<Float>?

  /// - Parameter values: the whole arena; only this rank's ranges of it are written.
  public init(
    entries: [NamedSlice], values: Tensor<Float>, ranges: [Range<Int>], firstMoment: Tensor<Float>,
    secondMoment: Tensor<Float>, average: Tensor<Float>? = nil
  ) {
    precondition(
      zip(entries, entries.dropFirst()).allSatisfy { $0.range.upperBound <= $1.offset }
        && entries.last.map { $0.range.upperBound <= values.count } ?? true,
      "parameters follow one another within the arena of \(values.count)")
    precondition(
      entries.allSatisfy { !$0.name.isEmpty && !$0.name.contains("/") && $0.name != "." },
      "parameters have names that a data set can have")
    precondition(
      zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound }
        && ranges.allSatisfy { $0.lowerBound >= 0 && $0.upperBound <= values.count },
      "\(ranges) in an arena of \(values.count)")
    self.init(entries, ranges, values, isPacked: false, firstMoment, secondMoment, average)
  }

  private init(
    _ entries: [NamedSlice], _ ranges: [Range<Int>], _ values: Tensor<Float>, isPacked: Bool,
    _ firstMoment: Tensor<Float>, _ secondMoment: Tensor<Float>, _ average: Tensor<Float>?
  ) {
    let count = Self.count(ranges)
    precondition(firstMoment.count == count && secondMoment.count == count, "moments of the rank's own ranges")
    precondition(average.map { $0.count == count } ?? true, "an average of the rank's own ranges")
    self.entries = entries
    self.ranges = ranges
    self.values = values
    self.isPacked = isPacked
    self.firstMoment = firstMoment
    self.secondMoment = secondMoment
    self.average = average
  }

  private static func count(_ ranges: [Range<Int>]) -> Int { ranges.reduce(0) { $0 + $1.count } }

  /// How many scalars this rank owns, gaps included.
  var ownCount: Int { Self.count(ranges) }

  /// What of each parameter this rank owns.
  var slices: [CheckpointPart.Slice] {
    entries.compactMap { entry in
      let shared = ranges.map { $0.clamped(to: entry.range) }.filter { !$0.isEmpty }
      let own = shared.map { $0.lowerBound - entry.offset..<$0.upperBound - entry.offset }
      return own.isEmpty ? nil : CheckpointPart.Slice(name: entry.name, shape: entry.shape, ranges: own)
    }
  }

  /// This rank's positions among the parameters laid end to end.
  var positions: [Range<Int>] {
    var found: [Range<Int>] = []
    var start = 0
    for entry in entries {
      for range in ranges {
        let shared = range.clamped(to: entry.range)
        guard !shared.isEmpty else { continue }
        let first = start + shared.lowerBound - entry.offset
        if let last = found.last, last.upperBound == first {
          found[found.count - 1] = last.lowerBound..<first + shared.count
        } else {
          found.append(first..<first + shared.count)
        }
      }
      start += entry.shape.count
    }
    return found
  }

  /// The vectors of own scalars that this rank gives.
  var vectors: Int { CheckpointPart.Group.all(averaged: average != nil).count }

  /// The same numbers in other memory: `vectors` times as many scalars as this rank owns.
  func copied(into memory: Tensor<Float>) -> CheckpointState {
    let parts = (0..<vectors).map { memory.slice($0 * ownCount..<($0 + 1) * ownCount) }
    let (values, first, second) = (parts[0], parts[1], parts[2])
    var start = 0
    for range in ranges {
      let own = start..<start + range.count
      copy(self.values.slice(isPacked ? own : range), into: values.slice(own))
      start = own.upperBound
    }
    copy(firstMoment, into: first)
    copy(secondMoment, into: second)
    if let average { copy(average, into: parts[3]) }
    return CheckpointState(
      entries, ranges, values, isPacked: true, first, second, average == nil ? nil : parts[3])
  }

  /// This rank's part of a checkpoint, to be written to `path`.
  func part(_ path: String) -> CheckpointPart {
    let places = Dictionary(uniqueKeysWithValues: entries.map { ($0.name, $0.offset) })
    return CheckpointPart(path, slices, averaged: average != nil) { group, name, scalars in
      guard let offset = places[name] else { preconditionFailure("the state has no parameter \(name)") }
      let place = offset + scalars.lowerBound..<offset + scalars.upperBound
      return switch group {
      case .parameters: values.slice(isPacked ? packed(place) : place)
      case .moment1: firstMoment.slice(packed(place))
      case .moment2: secondMoment.slice(packed(place))
      case .average: (average ?? values).slice(packed(place))
      }
    }
  }

  /// Where a place of the arena, within one of the ranges, is when the ranges are laid end to end.
  private func packed(_ place: Range<Int>) -> Range<Int> {
    var start = 0
    for range in ranges {
      if range.lowerBound <= place.lowerBound, place.upperBound <= range.upperBound {
        return start + place.lowerBound - range.lowerBound..<start + place.upperBound - range.lowerBound
      }
      start += range.count
    }
    preconditionFailure("\(place) is in none of \(ranges)")
  }
}

/// What a checkpoint says besides parameters and moments; the same on every rank.
public struct CheckpointRecord: Codable, Hashable, Sendable {
  /// A small array that is not a parameter: running statistics, an optimizer's counters. Written exactly.
  public struct Array: Codable, Hashable, Sendable {
    public let name: String
    public let shape: [Int]
    public let values: [Double]

    public init(name: String, shape: [Int], values: [Double]) {
      self.name = name
      self.shape = shape
      self.values = values
    }
  }

  /// Optimizer steps taken.
  public var step: Int
  /// Images and captions seen.
  public var samples: Int
  /// Batches by which the data are ahead of the steps, where a run has gone back to a checkpoint but not to its data.
  public var passedOver: Int?
  /// The resolved run, as JSON.
  public var run: String
  public var arrays: [Array]
  /// The version of Kinship that wrote it.
  public var version: String
  /// The BLAS kernel and the threads of a rank: resuming on the same ones gives the same bits.
  public var kernel: String
  public var threads: Int

  public init(
    step: Int, samples: Int, passedOver: Int? = nil, run: String, arrays: [Array] = [], version: String, kernel: String,
    threads: Int
  ) {
    self.step = step
    self.samples = samples
    self.passedOver = passedOver
    self.run = run
    self.arrays = arrays
    self.version = version
    self.kernel = kernel
    self.threads = threads
  }
}
