public import Tensor

/// An exponential moving average of a model's weights: after each step e ← e + (1 − d)(p − e), over some ranges of a
/// parameter arena, and over all running statistics. Counts are as they are.
public final class WeightAverage<S: Scalar> {
  public struct Options: Sendable, Equatable {
    /// What is kept of the average in a step.
    public var decay: Double
    /// Whether the first steps keep less, so that weights that were drawn are soon forgotten.
    public var warmup: Bool

    public init(decay: Double = 0.9999, warmup: Bool = true) {
      self.decay = decay
      self.warmup = warmup
    }

    /// d of step t, counted from 1: with warm-up min(decay, (1 + t) / (10 + t)).
    public func decay(at step: Int) -> Double {
      warmup ? min(decay, Double(1 + step) / Double(10 + step)) : decay
    }
  }

  public let options: Options
  /// What of the arena is averaged here, by rising place.
  public let ranges: [Range<Int>]
  /// Their averages, end to end.
  public let values: Tensor<S>
  /// The averages of all buffers, as `ParameterStore.bufferValues` has them.
  public let bufferValues: Tensor<Double>
  private let store: ParameterStore<S>

  /// The store is allocated, and the average is 0 until it begins.
  public init(_ store: ParameterStore<S>, _ options: Options, ranges: [Range<Int>]) {
    self.store = store
    self.options = options
    self.ranges = ranges
    values = Tensor(Shape(ranges.reduce(0) { $0 + $1.count }))
    bufferValues = Tensor(store.bufferValues.shape)
  }

  /// The average becomes what the model is.
  public func begin() {
    forEachRange { copy($1, into: $0) }
    copy(store.bufferValues, into: bufferValues)
  }

  /// Moves the average towards the model after step `step`, counted from 1.
  public func update(after step: Int) {
    let share = 1 - options.decay(at: step)
    forEachRange { approach($0, $1, share: S(share)) }
    for buffer in store.buffers {
      for at in buffer.range {
        let (old, new) = (bufferValues[at], store.bufferValues[at])
        bufferValues[at] = buffer.isCount ? new : Double(S(old + share * (new - old)))
      }
    }
  }

  /// Puts the average in the model's place, as far as it is here, and the model in the average's; once more puts both
  /// back.
  public func exchange() {
    forEachRange { swapValues($0, $1) }
    swapValues(bufferValues, store.bufferValues)
  }

  private func forEachRange(_ body: (_ average: Tensor<S>, _ value: Tensor<S>) -> Void) {
    var start = 0
    for range in ranges {
      body(values.slice(start..<start + range.count), store.values.slice(range))
      start += range.count
    }
  }
}
