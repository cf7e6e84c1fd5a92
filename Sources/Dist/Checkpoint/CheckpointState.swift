public import Tensor

/// One rank's contribution to a checkpoint: the ranges that it owns of a flat arena, with AdamW's moments and, if the
/// run has one, the moving average of these ranges.
public struct CheckpointState: Sendable {
  /// The parameters, by rising offset. Gaps between them are not stored.
  let entries: [NamedSlice]
  /// The ranges of the arena that this rank owns, rising. All ranks' ranges together hold each scalar once.
  let ranges: [Range<Int>]
  /// The whole arena, or if `isPacked` this rank's ranges of it, end to end.
  private var values: Tensor<Float>
  private var isPacked = false
  /// The first and second moments of the ranges, end to end.
  private var firstMoment: Tensor<Float>
  private var secondMoment: Tensor<Float>
  /// The moving average of the ranges' values, end to end. Either all ranks have one or none.
  private(set) var average: Tensor<Float>?

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
    self.entries = entries
    self.ranges = ranges
    self.values = values
    self.firstMoment = firstMoment
    self.secondMoment = secondMoment
    self.average = average
    let (count, vectors) = (ownCount, [firstMoment, secondMoment, average ?? firstMoment])
    precondition(vectors.allSatisfy { $0.count == count }, "moments and average of the rank's \(count) scalars")
  }

  /// The number of scalars that this rank owns, including gaps.
  var ownCount: Int { ranges.reduce(0) { $0 + $1.count } }

  /// The slices of the parameters that this rank owns.
  var slices: [CheckpointPart.Slice] {
    entries.compactMap { entry in
      let shared = ranges.map { $0.clamped(to: entry.range) }.filter { !$0.isEmpty }
      let own = shared.map { $0.lowerBound - entry.offset..<$0.upperBound - entry.offset }
      return own.isEmpty ? nil : CheckpointPart.Slice(name: entry.name, shape: entry.shape, ranges: own)
    }
  }

  /// The positions of this rank's scalars, as the manifest counts them.
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

  /// Returns a copy whose numbers are in `memory`, which has as many scalars as this rank owns for each group.
  func copied(into memory: Tensor<Float>) -> CheckpointState {
    func vector(_ index: Int) -> Tensor<Float> { memory.slice(index * ownCount..<(index + 1) * ownCount) }
    var other = self
    (other.values, other.firstMoment, other.secondMoment) = (vector(0), vector(1), vector(2))
    other.isPacked = true
    var start = 0
    for range in ranges {
      let own = start..<start + range.count
      copy(values.slice(isPacked ? own : range), into: other.values.slice(own))
      start = own.upperBound
    }
    copy(firstMoment, into: other.firstMoment)
    copy(secondMoment, into: other.secondMoment)
    if let average {
      other.average = vector(3)
      copy(average, into: vector(3))
    }
    return other
  }

  /// Returns this rank's part of a checkpoint, to be written to `path`.
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

  /// Returns where a range of the arena, within one of this rank's ranges, is when these are laid end to end.
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

/// The contents of a checkpoint besides parameters and moments. They are the same on every rank.
public struct CheckpointRecord: Codable, Hashable, Sendable {
  /// A small array that is not a parameter, such as running statistics. Its values are written exactly.
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

  /// The number of optimizer steps so far.
  public var step: Int
  /// The number of image-caption pairs that were seen.
  public var samples: Int
  /// The number of batches that were read but not trained on, if the run went back to a checkpoint but not in its data.
  public var passedOver: Int?
  /// The resolved run, as JSON.
  public var run: String
  public var arrays: [Array]
  /// The version of Kinship that wrote it.
  public var version: String
  /// The BLAS kernel and the threads of a rank. Resuming with the same gives the same bits.
  public var kernel: String
  public var threads: Int

  public init(
    step: Int, samples: Int, run: String, arrays: [Array] = [], version: String, kernel: String, threads: Int
  ) {
    self.step = step
    self.samples = samples
    self.run = run
    self.arrays = arrays
    self.version = version
    self.kernel = kernel
    self.threads = threads
  }
}
