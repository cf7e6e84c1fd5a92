import Foundation
import Tensor
import TestSupport
import Testing

@testable import Model

@Suite struct ParameterGroupsTests {
  private static let config = CLIPConfig(
    embedding: 6, vision: VisionConfig(imageSize: 8, patchSize: 4, width: 8, layers: 3, headWidth: 4),
    text: TextConfig(contextLength: 6, vocabularySize: 11, width: 8, heads: 2, layers: 2))

  private func scales(_ groups: ParameterGroups, _ entries: [NamedSlice]) -> [String: Double] {
    Dictionary(uniqueKeysWithValues: zip(entries.map(\.name), groups.choices(for: entries).map(\.scale)))
  }

  /// The expected factors are powers of two, written out by the convention: decay^(L + 1 − l).
  @Test func layersOfTransformers() {
    let model = CLIP<Float>.student(Self.config, ObjectivePreset.clipKD.options, teacherWidth: 5).model
    let found = scales(
      ParameterGroups(layerDecay: LayerDecay(image: 0.5, text: 0.25)), model.parameters.entries)
    for (names, scale) in [
      (
        [
          "visual.conv1.weight", "visual.class_embedding", "visual.positional_embedding", "visual.ln_pre.weight",
          "visual.ln_pre.bias",
        ], 0.0625
      ), (["visual.transformer.resblocks.0."], 0.125), (["visual.transformer.resblocks.1."], 0.25),
      (["visual.transformer.resblocks.2."], 0.5),
      (["token_embedding.weight", "positional_embedding"], 0.015625), (["transformer.resblocks.0."], 0.0625),
      (["transformer.resblocks.1."], 0.25),
      (
        [
          "visual.ln_post.weight", "visual.proj", "ln_final.bias", "text_projection", "logit_scale", "objective.",
        ], 1
      ),
    ] {
      for name in names {
        let all = found.filter { name.hasSuffix(".") ? $0.key.hasPrefix(name) : $0.key == name }
        #expect(!all.isEmpty && all.values.allSatisfy { $0 == scale }, "\(name): \(all)")
      }
    }
  }

  /// Twelve blocks with a decay of 0.65 are BEiT's, whose code takes 0.65^(13 − layer) for the layers 0 to 13.
  @Test func isTheListOfBEiT() throws {
    let layout = CLIP<Float>.layout(try CLIPConfig(preset: "ViT-B-16"))
    let found = scales(ParameterGroups(layerDecay: LayerDecay(image: 0.65, text: 1)), layout.entries)
    for (name, scale) in [
      ("visual.conv1.weight", 0.003697205891018715),
      ("visual.transformer.resblocks.0.attn.in_proj_weight", 0.005688009063105715),
      ("visual.transformer.resblocks.11.mlp.c_proj.bias", 0.65), ("visual.proj", 1), ("token_embedding.weight", 1),
    ] {
      #expect(abs((found[name] ?? 0) - scale) < 1e-15, "\(name)")
    }
  }

  @Test func layersOfAResNet() {
    var config = Self.config
    config.vision = VisionConfig(imageSize: 32, stages: [1, 2, 1, 1], width: 4, headWidth: 32)
    let found = scales(
      ParameterGroups(layerDecay: LayerDecay(image: 0.5, text: 1)), CLIP<Float>.layout(config).entries)
    for (prefix, scale) in [
      ("visual.conv1.", 0.03125), ("visual.bn3.", 0.03125), ("visual.layer1.", 0.0625), ("visual.layer2.0.", 0.125),
      ("visual.layer2.1.", 0.125), ("visual.layer4.", 0.5), ("visual.attnpool.", 1), ("transformer.", 1),
    ] {
      let all = found.filter { $0.key.hasPrefix(prefix) }
      #expect(!all.isEmpty && all.values.allSatisfy { $0 == scale }, "\(prefix): \(all)")
    }
  }

  @Test(arguments: [false, true]) func theLongestPrefixHasTheParameter(reversed: Bool) {
    let groups = ["image", "visual.", "visual.transformer.resblocks.1", "text", "logit_scale"].enumerated()
      .map { ParameterGroup(match: $1, scale: Double($0 + 2)) }
    let entries = CLIP<Float>.layout(Self.config).entries
    let found = scales(ParameterGroups(reversed ? groups.reversed() : groups), entries)
    for entry in entries {
      let isBlock = entry.name.hasPrefix("visual.transformer.resblocks.1.")
      let expected =
        isBlock ? 4.0 : entry.name.hasPrefix("visual.") ? 3 : entry.name == CLIPConfig.logitScale ? 6 : 5
      #expect(found[entry.name] == expected, "\(entry.name)")
    }
    #expect(!ParameterPrefix("visual.transformer.resblocks.1").contains("visual.transformer.resblocks.10.ln_1.bias"))
    #expect(!ParameterPrefix("text").contains("objective.scale") && !ParameterPrefix("text").contains("logit_scale"))
  }

  /// AdamW in Double over groups, layers and frozen parameters equals the plain formula for each number by itself, and
  /// the ranges of several ranks give the bits of one.
  @Test func isAdamWWithItsOwnNumbersForEachParameter() {
    let options = AdamW<Double>.Options(
      decay: 0.3, beta1: 0.8, beta2: 0.9, epsilon: 1e-3,
      groups: ParameterGroups(
        [
          ParameterGroup(match: "visual", scale: 0.1, decay: 0.05), ParameterGroup(match: "visual.proj", scale: 3),
          ParameterGroup(match: "ln_final", scale: 0.5, decay: 7),
        ], layerDecay: LayerDecay(image: 0.5, text: 0.75)))
    func model() -> CLIP<Double> {
      let model = CLIP<Double>(Self.config)
      model.initialize(seed: 7)
      copy(Tensor<Double>.random(Shape(model.parameters.count), "gradient"), into: model.parameters.gradients)
      return model
    }
    let whole = model()
    let frozen = Frozen(["visual.conv1.weight", "ln_final.weight"], in: whole.parameters)
    let before = whole.parameters.values.array
    let optimizer = AdamW(whole.parameters, options, frozen: frozen)
    for step in 1...3 {
      optimizer.update(
        whole.parameters.values, gradient: whole.parameters.gradients, learningRate: 0.1 / Double(step),
        gradientScale: 0.5)
    }
    for entry in whole.entries {
      let (scale, decay) = Self.rates(entry)
      for at in entry.range {
        var (p, m, v) = (before[at], 0.0, 0.0)
        for step in 1...3 where !frozen.contains(entry.name) {
          let (rate, gradient) = (scale * 0.1 / Double(step), whole.parameters.gradients[at] * 0.5)
          p -= rate * decay * p
          m = 0.8 * m + 0.2 * gradient
          v = 0.9 * v + 0.1 * gradient * gradient
          let (mean, square) = (m / (1 - pow(0.8, Double(step))), v / (1 - pow(0.9, Double(step))))
          p -= rate * mean / (square.squareRoot() + 1e-3)
        }
        #expect(abs(whole.parameters.values[at] - p) < 1e-13, "\(entry.name)")
      }
    }
    for ranks in [2, 3] {
      let parts = model()
      let count = parts.parameters.count
      let optimizers = (0..<ranks).map { rank in
        AdamW(
          parts.parameters, options, ranges: [rank * count / ranks..<(rank + 1) * count / ranks], frozen: frozen)
      }
      for step in 1...3 {
        for optimizer in optimizers {
          optimizer.update(
            parts.parameters.values, gradient: parts.parameters.gradients.slice(optimizer.ranges[0]),
            learningRate: 0.1 / Double(step), gradientScale: 0.5)
        }
      }
      for entry in whole.entries {
        #expect(parts.parameters.value(of: entry).array == whole.parameters.value(of: entry).array, "\(entry.name)")
      }
    }
  }

  /// Returns the factor of the learning rate and the decay that the options above mean for a parameter.
  private static func rates(_ entry: NamedSlice) -> (scale: Double, decay: Double) {
    let name = entry.name
    let decays = DecayRule.legacy.decays(name, entry.shape)
    if name == "visual.proj" { return (3, 0.3) }
    if name.hasPrefix("ln_final") { return (0.5, 0) }
    if name == "logit_scale" || name == "text_projection" { return (1, decays ? 0.3 : 0) }
    let isVisual = name.hasPrefix("visual.")
    let blocks = isVisual ? 3 : 2
    let block = (0..<blocks).first { name.contains("resblocks.\($0).") }
    let layers = name.contains("ln_post") ? 0 : block.map { blocks - $0 } ?? blocks + 1
    let depth = pow(isVisual ? 0.5 : 0.75, Double(layers))
    return ((isVisual ? 0.1 : 1) * depth, decays ? (isVisual ? 0.05 : 0.3) : 0)
  }

  /// A group's decay replaces that of the objective's own parameters, and does not make a scale decay.
  @Test func whatDecays() {
    let options = AdamW<Float>.Options(decay: 0.3, headDecay: 0.2)
    let group = ParameterGroup(match: "", decay: 0.1)
    #expect(options.decay(of: "objective.head.bias", Shape(3), in: group) == 0.1)
    #expect(options.decay(of: "objective.head.bias", Shape(3)) == 0.2)
    #expect(options.decay(of: "logit_scale", Shape(), in: group) == 0)
    #expect(options.decay(of: "visual.proj", Shape(3, 2), in: group) == 0.1)
    #expect(options.decay(of: "visual.proj", Shape(3, 2), in: ParameterGroup(match: "")) == 0.3)
  }
}
