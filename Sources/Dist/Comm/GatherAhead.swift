public import Tensor

/// Brings together, a stage at a time, numbers of which each rank keeps a part, while the caller computes.
///
/// Every rank must start the same stages in the same order. Nothing is under way once all that was started has been
/// waited for.
public final class GatherAhead<S: Scalar>: Sendable {
  private let values: Tensor<S>
  private let stages: [[Range<Int>]]
  private let thread: CommunicationThread

  /// - Parameters:
  ///   - values: where each number has its place.
  ///   - stages: of each stage the ranges that are gathered, each in equal parts of whole 64-byte lines.
  ///   - ranks: used by nobody else while stages are under way.
  public init(_ values: Tensor<S>, stages: [[Range<Int>]], over ranks: Communicator) {
    self.values = values
    self.stages = stages
    thread = CommunicationThread("gather", over: ranks)
  }

  /// The parts of a range that each rank keeps.
  public static func parts(of range: Range<Int>, ranks: Int) -> [Range<Int>] {
    let line = Arena<S>.alignment / MemoryLayout<S>.stride
    return (0..<ranks).map { rank in
      let own = Communicator.slice(of: (range.count + line - 1) / line, rank: rank, size: ranks)
      return min(
        range.lowerBound + own.lowerBound * line, range.upperBound)..<min(
          range.lowerBound + own.upperBound * line, range.upperBound)
    }
  }

  /// Begins to gather a stage, after those that were started before.
  public func start(_ stage: Int) {
    thread.submit { [values, ranges = stages[stage]] ranks in
      for range in ranges { try ranks.gatherSlices(in: values, ranges: Self.parts(of: range, ranks: ranks.size)) }
    }
  }

  /// Returns when all that was started is there; throws what went wrong with it.
  public func wait() throws { try thread.wait() }
}
