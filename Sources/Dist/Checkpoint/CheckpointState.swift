public import Tensor

/// One rank's contribution to a checkpoint: its ranges of a flat arena, with moments and perhaps a moving average.
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
    let (extents, arena) = (entries.map(\.range), 0..<values.count)
    precondition(
      extents.isRising && extents.last?.upperBound ?? 0 <= values.count,
      "parameters follow one another within the arena of \(values.count)")
    precondition(
      entries.allSatisfy { !$0.name.isEmpty && !$0.name.contains("/") && $0.name != "." },
      "parameters have names that a data set can have")
    precondition(
      ranges.isRising && ranges.allSatisfy { $0.clamped(to: arena) == $0 }, "\(ranges) in an arena of \(values.count)")
    (self.entries, self.ranges, self.values) = (entries, ranges, values)
    (self.firstMoment, self.secondMoment, self.average) = (firstMoment, secondMoment, average)
    let (count, vectors) = (ownCount, [firstMoment, secondMoment, average ?? firstMoment])
    precondition(vectors.allSatisfy { $0.count == count }, "moments and average of the rank's \(count) scalars")
  }

  /// An upper bound on the bytes of this rank's part of a checkpoint, or of its share of its node's.
  public var byteBound: Int { part("", holding: ranges).byteBound }
  /// The number of scalars that this rank owns, including gaps.
  var ownCount: Int { ranges.total }

  /// Returns the slices of a part with these ranges of the arena, among which are this rank's.
  private func slices(_ held: [Range<Int>]) -> [CheckpointPart.Slice] {
    entries.compactMap { entry in
      let shared = Self.shared(entry, held)
      guard !shared.isEmpty else { return nil }
      let own = Self.shared(entry, ranges)
      return CheckpointPart.Slice(name: entry.name, shape: entry.shape, ranges: shared, own: own)
    }
  }

  /// Returns the positions of the scalars in these ranges of the arena, as the manifest counts them.
  func positions(_ held: [Range<Int>]) -> [Range<Int>] {
    zip(entries, entries.map(\.shape.count).endToEnd).reduce(into: []) { found, place in
      for shared in Self.shared(place.0, held) { found.appendJoining(shared.moved(by: place.1.lowerBound)) }
    }
  }

  /// Returns the scalars of a parameter, counted within it, that are in these ranges of the arena.
  private static func shared(_ entry: NamedSlice, _ ranges: [Range<Int>]) -> [Range<Int>] {
    ranges.map { $0.clamped(to: entry.range) }.filter { !$0.isEmpty }.map { $0.moved(by: -entry.offset) }
  }

  /// Returns a copy whose numbers are in `memory`, which has as many scalars as this rank owns for each group.
  func copied(into memory: Tensor<Float>) -> CheckpointState {
    func vector(_ index: Int) -> Tensor<Float> { memory.slice(index * ownCount..<(index + 1) * ownCount) }
    var other = self
    (other.values, other.firstMoment, other.secondMoment) = (vector(0), vector(1), vector(2))
    other.isPacked = true
    for (range, own) in zip(ranges, ranges.map(\.count).endToEnd) {
      copy(values.slice(isPacked ? own : range), into: other.values.slice(own))
    }
    copy(firstMoment, into: other.firstMoment)
    copy(secondMoment, into: other.secondMoment)
    if let average {
      other.average = vector(3)
      copy(average, into: vector(3))
    }
    return other
  }

  /// Returns the part with these ranges of the arena, among which are this rank's.
  func part(_ path: String, holding held: [Range<Int>]) -> CheckpointPart {
    let places = Dictionary(uniqueKeysWithValues: entries.map { ($0.name, $0.offset) })
    return CheckpointPart(path, slices(held), averaged: average != nil) { group, name, scalars in
      guard let offset = places[name] else { preconditionFailure("the state has no parameter \(name)") }
      let place = scalars.moved(by: offset)
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
      if place.clamped(to: range) == place { return place.moved(by: start - range.lowerBound) }
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
      (self.name, self.shape, self.values) = (name, shape, values)
    }
  }

  /// The limit on the numbers of steps, pairs and batches, up to which every reader of JSON is exact.
  static let most = 1 << 53
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
  /// The BLAS kernel and the threads of a rank.
  public var kernel: String
  public var threads: Int
  /// The arithmetic of the job: one if all ranks have the same, else each rank's, in rank order. It is nil in
  /// checkpoints of earlier builds, which did not record it.
  public var arithmetic: [Arithmetic]?
  /// The way of gradients between ranks, as far as it rounds or orders sums in another way than one level in fp32.
  public var route: String?

  public init(
    step: Int, samples: Int, run: String, arrays: [Array] = [], version: String, kernel: String, threads: Int,
    arithmetic: [Arithmetic]? = nil
  ) {
    (self.step, self.samples, self.run, self.arrays) = (step, samples, run, arrays)
    (self.version, self.kernel, self.threads, self.arithmetic) = (version, kernel, threads, arithmetic)
  }
}
