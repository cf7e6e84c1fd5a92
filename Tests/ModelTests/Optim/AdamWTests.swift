import Model
import Tensor
import TestSupport
import Testing

@Suite struct AdamWTests {
  /// Returns parameters of many sizes, with and without decay, and with gaps between them.
  private func store<S: Scalar>() -> ParameterStore<S> {
    let store = ParameterStore<S>()
    for (name, shape) in [
      ("token_embedding.weight", Shape(7, 3)), ("ln_final.weight", Shape(3)), ("a.weight", Shape(5, 5)),
      ("b.weight", Shape(4, 8)), ("b.bias", Shape(8)), ("logit_scale", Shape()), ("proj", Shape(1, 17)),
    ] {
      _ = store.declare(name, shape, .zeros)
    }
    store.allocate(gradients: true)
    for entry in store.entries {
      copy(Tensor<S>.random(entry.shape, entry.name), into: store.value(of: entry))
      copy(Tensor<S>.random(entry.shape, "d\(entry.name)"), into: store.gradient(of: entry))
    }
    return store
  }

  @Test func rangesTogetherAreTheWhole() {
    compareRanges(Double.self)
    compareRanges(Float.self)
  }

  /// The bounds of ranges lie inside parameters, in gaps, or on each other; the result is equal bit for bit.
  private func compareRanges<S: Scalar>(_: S.Type) {
    let whole: ParameterStore<S> = store()
    let options = AdamW<S>.Options(decay: 0.3)
    let one = AdamW(whole, options)
    for _ in 0..<3 { one.update(whole.values, gradient: whole.gradients, learningRate: 0.1, gradientScale: 0.5) }
    for bounds in [
      [0, whole.count / 2, whole.count], [0, 1, 22, 30, 49, 49, 100, whole.count], Array(0...whole.count),
    ] {
      let cut: ParameterStore<S> = store()
      let ranges = zip(bounds, bounds.dropFirst()).map { $0..<$1 }
      let parts = ranges.map { AdamW(cut, options, ranges: [$0]) }
      for _ in 0..<3 {
        for part in parts {
          part.update(cut.values, gradient: cut.gradients.slice(part.ranges[0]), learningRate: 0.1, gradientScale: 0.5)
        }
      }
      #expect(cut.values.array == whole.values.array)
      #expect(parts.flatMap { $0.firstMoment.array } == one.firstMoment.array)
      #expect(parts.flatMap { $0.secondMoment.array } == one.secondMoment.array)
    }
  }

  @Test func onlyTheParametersOfTheRuleDecay() {
    for rule in DecayRule.allCases {
      let store: ParameterStore<Double> = store()
      let before = store.values.array
      fill(store.gradients, 0)
      AdamW(store, .init(decay: 0.25, rule: rule)).update(store.values, gradient: store.gradients, learningRate: 0.5)
      for entry in store.entries {
        let factor = rule.decays(entry.name, entry.shape) ? 0.875 : 1
        #expect(store.value(of: entry).array == before[entry.range].map { $0 * factor }, "\(entry.name)")
      }
    }
  }

  /// The extra decay applies to all heads, scales and biases of the objective, but not to the model's parameters.
  @Test(arguments: [0, 0.125]) func theObjectivesParametersMayHaveADecayOfTheirOwn(headDecay: Double) {
    let store = ParameterStore<Double>()
    let names = ["a.weight", "objective.head.weight", "objective.head.bias", "objective.scale", "b.bias"]
    for name in names { _ = store.declare(name, name.hasSuffix("weight") ? Shape(3, 2) : Shape(2), .ones) }
    store.allocate(gradients: true)
    fill(store.values, 1)
    for (decay, kept) in [
      (headDecay, [0.75] + [Double](repeating: 1 - headDecay, count: 3) + [1]), (nil, [0.75, 0.75, 1, 1, 1]),
    ] {
      fill(store.values, 1)
      AdamW(store, .init(decay: 0.25, headDecay: decay)).update(
        store.values, gradient: store.gradients, learningRate: 1)
      #expect(store.entries.map { store.value(of: $0)[0] } == kept)
      #expect(
        store.entries.allSatisfy { entry in
          store.value(of: entry).array.allSatisfy { $0 == store.value(of: entry)[0] }
        })
    }
  }

  @Test func gapsStayZero() {
    let store: ParameterStore<Float> = store()
    AdamW(store, .init()).update(store.values, gradient: store.gradients, learningRate: 0.1)
    var values = store.values.array
    for entry in store.entries { for index in entry.range { values[index] = 0 } }
    #expect(values.allSatisfy { $0 == 0 })
  }

  @Test(arguments: [
    ("visual.conv1.weight", Shape(4, 3, 2, 2), true, true), ("visual.proj", Shape(4, 4), true, true),
    ("text_projection", Shape(4, 4), true, true), ("token_embedding.weight", Shape(4, 4), true, true),
    ("positional_embedding", Shape(4, 4), true, false), ("visual.positional_embedding", Shape(4, 4), true, false),
    ("visual.class_embedding", Shape(4), false, false), ("visual.ln_pre.weight", Shape(4), false, false),
    ("transformer.resblocks.0.mlp.c_fc.bias", Shape(4), false, false), ("logit_scale", Shape(), false, false),
    ("transformer.resblocks.0.attn.in_proj_weight", Shape(12, 4), true, true),
    ("transformer.resblocks.0.ln_1.weight", Shape(4), false, false), ("a.bn1.matrix", Shape(2, 2), false, true),
  ]) func rules(name: String, shape: Shape, legacy: Bool, current: Bool) {
    #expect(DecayRule.legacy.decays(name, shape) == legacy)
    #expect(DecayRule.current.decays(name, shape) == current)
  }
}
