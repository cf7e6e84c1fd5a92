import Foundation
import Tensor
import TestSupport
import Testing

@testable import Model

/// The distribution of the masks, their expected sparsity, and the Lagrangian term.
@Suite struct MasksTests {
  private static let layout = MaskLayout(SmallModels.all[2].config, towers: .both)

  /// Returns masks whose log α is uniform in low … high.
  private static func masks(low: Double, high: Double) -> Masks {
    var masks = Masks(layout)
    var random = KeyedRandom(seed: 4, purpose: "log alpha")
    for index in masks.logAlpha.indices { masks.logAlpha[index] = random.uniform(from: low, to: high) }
    return masks
  }

  @Test(arguments: [-4.0, -1.6, 0, 0.7, 3]) func theDistribution(logAlpha: Double) {
    var random = KeyedRandom(seed: 1, purpose: "distribution")
    let draws = 40_000
    let values = (0..<draws).map { _ in
      HardConcrete.sample(logAlpha: logAlpha, uniform: random.uniform(from: 1e-6, to: 1 - 1e-6)).value
    }
    #expect(values.allSatisfy { (0...1).contains($0) })
    let p = HardConcrete.survival(logAlpha).value
    #expect(abs(p - 1 / (1 + exp(-logAlpha - 1.5986))) < 1e-5)
    let spread = (p * (1 - p) / Double(draws)).squareRoot()
    #expect(abs(Double(values.count { $0 > 0 }) / Double(draws) - p) < 4 * spread)
    // The distribution is symmetric: P(z < 1) at log α equals P(z > 0) at −log α.
    let ones = HardConcrete.survival(-logAlpha).value
    #expect(
      abs(Double(values.count { $0 < 1 }) / Double(draws) - ones) < 4 * (ones * (1 - ones) / Double(draws)).squareRoot()
    )
  }

  @Test func drawsBelongToSeedAndStep() {
    let masks = Self.masks(low: -1, high: 1)
    let draw = masks.sample(seed: 3, step: 8).values
    #expect(draw == masks.sample(seed: 3, step: 8).values)
    #expect(draw != masks.sample(seed: 3, step: 9).values && draw != masks.sample(seed: 4, step: 8).values)
    #expect(draw.contains(0) && draw.contains(1) && draw.contains { $0 > 0 && $0 < 1 })
  }

  @Test func bounds() {
    #expect(Masks(Self.layout).logAlpha.allSatisfy { $0 == 10 })
    var masks = Self.masks(low: -20, high: 20)
    masks.clamp()
    #expect(masks.logAlpha.min() == log(0.01) && masks.logAlpha.max() == log(100))
  }

  @Test func withoutChance() {
    let masks = Self.masks(low: -2, high: 2)
    let values = masks.expected
    for (name, range) in Self.layout.vectors {
      let alive = range.reduce(0.0) { $0 + HardConcrete.survival(masks.logAlpha[$1]).value }
      let zeros = range.filter { values[$0] == 0 }
      #expect(
        zeros.count == min(range.count - 1, Int((Double(range.count) - alive).rounded(.toNearestOrEven))), "\(name)")
      let largest = zeros.map { masks.logAlpha[$0] }.max() ?? -.infinity
      for index in range where values[index] != 0 {
        #expect(masks.logAlpha[index] > largest)
        #expect(abs(values[index] - 1 / (1 + exp(-1.2 * masks.logAlpha[index]))) < 1e-15)
      }
    }
    // Even if all masks of a vector are expected to be 0, one is kept.
    var last = Masks(Self.layout)
    for index in last.logAlpha.indices { last.logAlpha[index] = -30 }
    for (_, range) in Self.layout.vectors { #expect(range.count { last.expected[$0] != 0 } == 1) }
  }

  /// Compares with the formulas of the reference, written for a tower whose blocks are all alike.
  @Test func sparsity() throws {
    let config = try CLIPConfig(preset: "ViT-B-32")
    var masks = Masks(MaskLayout(config, towers: .image))
    let (h, m, heads, layers) = (768.0, 3072.0, 12.0, 12.0)
    let perHead = ((4 * h * h + 4 * h) / heads).rounded(.down)
    let prunable = heads * layers * perHead + layers * (2 * h * m + h + m)
    for (logAlpha, p) in [(10.0, 1 - 9.1e-6), (0, 1 / (1 + exp(-1.5986)))] {
      for index in masks.logAlpha.indices { masks.logAlpha[index] = logAlpha }
      let left = p * h * (p * layers * heads) * perHead / h + 2 * (p * h) * (p * layers * m)
      #expect(abs(masks.sparsity.value - (1 - left / prunable)) < 1e-5)
    }
    // Half of the hidden units are left, and all heads and MLP units.
    let half = (0..<masks.layout.count).map { $0 < 384 ? 0.0 : 1.0 }
    let left = h / 2 * (layers * heads) * perHead / h + 2 * (h / 2) * (layers * m)
    #expect(abs(masks.sparsity(of: half) - (1 - left / prunable)) < 1e-12)
  }

  @Test func derivatives() {
    var masks = Self.masks(low: -2, high: 2)
    let e = masks.sparsity
    let logAlpha = Tensor<Double>(Shape(masks.logAlpha.count), masks.logAlpha)
    let gradient = Tensor<Double>(logAlpha.shape)
    var lagrangian = Lagrangian()
    lagrangian.multipliers = [3, 7]
    let multipliers = Tensor<Double>(Shape(2), lagrangian.multipliers)
    let slopes = Tensor<Double>(Shape(2))
    func term() -> (value: Double, expected: Double, multipliers: [Double]) {
      masks.logAlpha = logAlpha.array
      lagrangian.multipliers = multipliers.array
      return lagrangian.term(expected: masks.sparsity.value, target: e.value + 0.2)
    }
    let report = GradientCheck(
      [
        .init("log alpha", logAlpha, gradient: gradient, accumulates: false),
        .init("multipliers", multipliers, gradient: slopes, accumulates: false),
      ], roundings: 256
    ).run {
      [term().value]
    } backward: { weights in
      let term = term()
      for (index, slope) in masks.sparsity.slopes.enumerated() { gradient[index] = weights[0] * term.expected * slope }
      for (index, slope) in term.multipliers.enumerated() { slopes[index] = weights[0] * slope }
    }
    #expect(report.passed, "\(report)")
    // Beyond the target the term is 0.
    let beyond = lagrangian.term(expected: 0.5, target: 0.4)
    #expect(beyond.value == 0 && beyond.expected == 0 && beyond.multipliers == [0, 0])
  }

  @Test func theTargetRises() {
    let targets = [0, 250, 1000, 5000].map { Lagrangian.target(at: $0, from: 0.25, to: 0.5, ramp: 1000) }
    #expect(targets == [0.25, 0.3125, 0.5, 0.5])
    #expect(Lagrangian.target(at: 0, from: 0.25, to: 0.5, ramp: 0) == 0.5)
  }
}
