import Model
import Tensor
import TestSupport
import Testing

@Suite struct WeightAverageTests {
  private func store<S: Scalar>(_: S.Type) -> ParameterStore<S> {
    let store = ParameterStore<S>()
    for (name, shape) in [("a", Shape(5, 7)), ("b", Shape()), ("c", Shape(19))] {
      _ = store.declare(name, shape, .zeros)
    }
    _ = store.declareBuffer("mean", Shape(3), initial: 0)
    _ = store.declareBuffer("count", Shape(), initial: 0, isCount: true)
    store.allocate(gradients: true)
    move(store, 0)
    return store
  }

  /// Changes the model as a step would.
  private func move<S: Scalar>(_ store: ParameterStore<S>, _ step: Int) {
    for entry in store.entries {
      copy(Tensor<S>.random(entry.shape, "\(entry.name) \(step)"), into: store.value(of: entry))
    }
    copy(Tensor<Double>.random(Shape(4), "buffers \(step)"), into: store.bufferValues)
    store.bufferValues[3] = Double(step)
  }

  @Test(arguments: [false, true]) func isTheFormula(warmup: Bool) {
    let store = store(Double.self)
    let average = WeightAverage(store, .init(decay: 0.75, warmup: warmup), ranges: [0..<store.count])
    average.begin()
    #expect(average.values.array == store.values.array && average.bufferValues.array == store.bufferValues.array)
    var (expected, buffers) = (store.values.array, store.bufferValues.array)
    for step in 1...30 {
      move(store, step)
      average.update(after: step)
      let decay = warmup ? min(0.75, Double(1 + step) / Double(10 + step)) : 0.75
      for at in expected.indices { expected[at] = decay * expected[at] + (1 - decay) * store.values[at] }
      for at in 0..<3 { buffers[at] = decay * buffers[at] + (1 - decay) * store.bufferValues[at] }
      #expect(zip(expected, average.values.array).allSatisfy { abs($0 - $1) < 1e-14 }, "step \(step)")
      #expect(zip(buffers, average.bufferValues.array.prefix(3)).allSatisfy { abs($0 - $1) < 1e-14 }, "step \(step)")
      #expect(average.bufferValues[3] == Double(step), "a count has no average")
    }
  }

  /// The averages of several ranks equal the single one bit for bit, and two exchanges restore the model.
  @Test func sharesAreTheWhole() {
    let (store, other) = (store(Float.self), store(Float.self))
    let whole = WeightAverage(store, .init(decay: 0.9, warmup: false), ranges: [0..<store.count])
    let bounds = [0, 1, 16, 40, 41, other.count]
    let ranges = zip(bounds, bounds.dropFirst()).map { $0..<$1 }
    // Each of two ranks has every second range.
    let shares = [0, 1].map { rank in
      WeightAverage(
        other, .init(decay: 0.9, warmup: false),
        ranges: ranges.enumerated().filter { $0.offset % 2 == rank }.map(\.element))
    }
    for average in [whole] + shares { average.begin() }
    for step in 1...5 {
      for store in [store, other] { move(store, step) }
      for average in [whole] + shares { average.update(after: step) }
    }
    let (before, statistics) = (other.values.array, other.bufferValues.array)
    for share in shares { share.exchange() }
    #expect(other.values.array == whole.values.array && other.values.array != before)
    whole.exchange()
    #expect(store.values.array == other.values.array && whole.values.array == before)
    #expect(store.bufferValues.array != statistics)
    // Both averages have exchanged the statistics of the one model.
    for share in shares.reversed() { share.exchange() }
    #expect(other.values.array == before && other.bufferValues.array == statistics)
  }

  /// The average of constant weights stays constant, however the decay is rounded.
  @Test func whatStaysKeepsEveryBit() {
    let store = store(Float.self)
    let average = WeightAverage(store, .init(decay: 0.9999), ranges: [0..<store.count])
    average.begin()
    for step in 1...1000 { average.update(after: step) }
    #expect(average.values.array.map(\.bitPattern) == store.values.array.map(\.bitPattern))
  }
}
