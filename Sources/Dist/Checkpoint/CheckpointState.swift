public import Tensor

/// Where a parameter lies in a flat arena.
public struct CheckpointEntry: Hashable, Sendable {
  public let name: String
  public let shape: Shape
  /// Its first scalar in every arena of the layout.
  public let offset: Int

  public init(name: String, shape: Shape, offset: Int) {
    self.name = name
    self.shape = shape
    self.offset = offset
  }

  public var range: Range<Int> { offset..<offset + shape.count }
}

/// What one rank gives to a checkpoint: a flat arena, of which it owns a range, and the moments of that range.
public struct CheckpointState: Sendable {
  /// The parameters, by rising offset; there may be gaps between them, which are not stored.
  public let entries: [CheckpointEntry]
  /// The whole arena; only this rank's range of it is written.
  public let values: Tensor<Float>
  /// This rank's part of the arena. The ranks' ranges follow one another, in rank order, and cover it.
  public let range: Range<Int>
  /// AdamW's first moment of `range`.
  public let firstMoment: Tensor<Float>
  /// AdamW's second moment of `range`.
  public let secondMoment: Tensor<Float>

  public init(
    entries: [CheckpointEntry], values: Tensor<Float>, range: Range<Int>, firstMoment: Tensor<Float>,
    secondMoment: Tensor<Float>
  ) {
    precondition(
      zip(entries, entries.dropFirst()).allSatisfy { $0.range.upperBound <= $1.offset }
        && entries.last.map { $0.range.upperBound <= values.count } ?? true,
      "parameters follow one another within the arena of \(values.count)")
    precondition(
      entries.allSatisfy { !$0.name.isEmpty && !$0.name.contains("/") && $0.name != "." },
      "parameters have names that a data set can have")
    precondition(range.lowerBound >= 0 && range.upperBound <= values.count, "\(range) in an arena of \(values.count)")
    precondition(
      firstMoment.count == range.count && secondMoment.count == range.count, "moments of the rank's own range")
    self.entries = entries
    self.values = values
    self.range = range
    self.firstMoment = firstMoment
    self.secondMoment = secondMoment
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
  /// Pictures and captions seen.
  public var samples: Int
  /// The resolved run, as JSON.
  public var run: String
  public var arrays: [Array]
  /// The version of Kinship that wrote it.
  public var version: String
  /// The BLAS kernel and the threads of a rank: resuming on the same ones gives the same bits.
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
