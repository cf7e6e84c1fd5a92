import Foundation
import Tensor
import TestSupport
import Testing

@testable import Model

/// Initial values are distributed as open_clip's are.
@Suite struct InitialValueTests {
  private static let config: CLIPConfig = {
    var text = TextConfig(contextLength: 17, vocabularySize: 301, width: 48, heads: 3, layers: 2)
    text.mlpRatio = 3
    return CLIPConfig(
      embedding: 40, vision: VisionConfig(imageSize: 40, patchSize: 8, width: 64, layers: 2, headWidth: 16), text: text)
  }()

  /// Returns the initial value that open_clip's constructors give to a parameter.
  private static func expected(_ name: String) -> Initial {
    let vision = name.hasPrefix("visual.")
    let w = Double(vision ? config.vision.width : config.text.width)
    let hidden = Double(vision ? config.vision.hidden : config.text.hidden)
    let deep = 1 / (w * Double(2 * config.text.layers)).squareRoot()
    let part = name.split(separator: ".").suffix(2).joined(separator: ".")
    switch part {
    case "logit_scale": return .constant(log(1 / 0.07))
    case "token_embedding.weight": return .normal(0.02)
    case "positional_embedding": return .normal(0.01)
    case "text_projection", "visual.class_embedding", "visual.positional_embedding", "visual.proj":
      return .normal(1 / w.squareRoot())
    case "conv1.weight": return .uniform(1 / Double(3 * config.vision.patchSize * config.vision.patchSize).squareRoot())
    case "attn.in_proj_weight": return vision ? .uniform((6 / (4 * w)).squareRoot()) : .normal(1 / w.squareRoot())
    case "out_proj.weight": return vision ? .uniform(1 / w.squareRoot()) : .normal(deep)
    case "attn.in_proj_bias", "out_proj.bias": return .zeros
    case "c_fc.weight": return vision ? .uniform(1 / w.squareRoot()) : .normal(1 / (2 * w).squareRoot())
    case "c_proj.weight": return vision ? .uniform(1 / hidden.squareRoot()) : .normal(deep)
    case "c_fc.bias": return .uniform(1 / w.squareRoot())
    case "c_proj.bias": return .uniform(1 / hidden.squareRoot())
    default: return part.hasSuffix("weight") ? .ones : .zeros
    }
  }

  @Test func distributions() {
    let model = CLIP<Double>(Self.config)
    model.initialize(seed: 3)
    for entry in model.parameters.entries {
      let values = model.parameters.value(of: entry).array
      let n = Double(values.count)
      let mean = values.reduce(0, +) / n
      let square = (values.reduce(0) { $0 + $1 * $1 } / n).squareRoot()
      switch Self.expected(entry.name) {
      case .constant(let number):
        #expect(values.allSatisfy { $0 == number }, "\(entry.name)")
      case .normal(let deviation):
        // Five standard errors: that of a deviation is σ/√(2n).
        #expect(abs(mean) <= 5 * deviation / n.squareRoot(), "mean of \(entry.name)")
        #expect(
          abs(square - deviation) <= 5 * deviation / (2 * n).squareRoot(), "deviation of \(entry.name): \(square)")
        #expect(n < 1000 || values.contains { abs($0) > 2.5 * deviation }, "\(entry.name) has no tails")
      case .uniform(let bound):
        let deviation = bound / 3.0.squareRoot()
        #expect(values.allSatisfy { abs($0) <= bound }, "\(entry.name)")
        #expect(abs(mean) <= 5 * deviation / n.squareRoot(), "mean of \(entry.name)")
        #expect(abs(square - deviation) <= 3 * deviation / n.squareRoot(), "deviation of \(entry.name): \(square)")
        #expect((values.map { abs($0) }.max() ?? 0) >= bound * (1 - 10 / n), "\(entry.name) stops short of \(bound)")
      }
    }
  }

  @Test func aFunctionOfSeedAndName() {
    let (a, b, c) = (CLIP<Float>(Self.config), CLIP<Float>(Self.config), CLIP<Float>(Self.config))
    a.initialize(seed: 1)
    b.initialize(seed: 1)
    c.initialize(seed: 2)
    #expect(a.parameters.values.array == b.parameters.values.array)
    var deeper = Self.config
    deeper.vision.layers += 1
    let other = CLIP<Float>(deeper)
    other.initialize(seed: 1)
    for (entry, initial) in zip(a.parameters.entries, a.parameters.initials) where ![.zeros, .ones].contains(initial) {
      let values = a.parameters.value(of: entry).array
      if entry.shape.count > 1 { #expect(values != c.parameters.value(of: entry).array, "\(entry.name)") }
      guard let same = other.parameters.entry(named: entry.name) else { continue }
      #expect(values == other.parameters.value(of: same).array, "\(entry.name) depends on the rest of the model")
    }
  }

  @Test func theLogitScaleStaysWithinItsBounds() {
    let model = CLIP<Float>(Self.config)
    for (value, clamped) in [(-0.5, 0), (0, 0), (2, 2), (5, log(100))] as [(Double, Double)] {
      model.logitScale.value[0] = Float(value)
      #expect(model.clampLogitScale() == (Float(value) != Float(clamped)))
      #expect(model.logitScale.value[0] == Float(clamped))
    }
  }
}
