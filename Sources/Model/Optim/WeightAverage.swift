public import Tensor

/// An exponential moving average of a model's weights: after each step e ← e + (1 − d)(p − e). It covers ranges of a
/// parameter arena and all running statistics; counts are copied.
public final class WeightAverage<S: Scalar> {
  /// The settings of the average.
  public struct Options: Sendable, Equatable {
    /// The share d of the average that a step keeps.
    public var decay: Double
    /// True if the first steps keep less, so that the random initial weights are soon forgotten.
    public var warmup: Bool

    public init(decay: Double = 0.9999, warmup: Bool = true) { (self.decay, self.warmup) = (decay, warmup) }

    /// Returns d of step t, counted from 1: min(decay, (1 + t) / (10 + t)) with warm-up.
    public func decay(at step: Int) -> Double { warmup ? min(decay, Double(1 + step) / Double(10 + step)) : decay }
  }

  public let options: Options
  /// The ranges of the arena that are averaged here, in ascending order.
  public let ranges: [Range<Int>]
  /// The averages of these ranges, end to end.
  public let values: Tensor<S>
  /// The averages of all buffers, in the layout of `ParameterStore.bufferValues`.
  public let bufferValues: Tensor<Double>
  private let store: ParameterStore<S>

  /// Creates an average of 0; call `begin` before the first update. The store must be allocated.
  public init(_ store: ParameterStore<S>, _ options: Options, ranges: [Range<Int>]) {
    (self.store, self.options, self.ranges) = (store, options, ranges)
    values = Tensor(Shape(ranges.reduce(0) { $0 + $1.count }))
    bufferValues = Tensor(store.bufferValues.shape)
  }

  /// Sets the average to the model's present weights.
  public func begin() {
    forEachRange { copy($1, into: $0) }
    copy(store.bufferValues, into: bufferValues)
  }

  /// Moves the average towards the model's weights after step `step`, counted from 1.
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

  /// Exchanges the average with the model's weights in `ranges` and with all buffers; a second call undoes the first.
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
