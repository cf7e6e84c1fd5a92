import Tensor
import TestSupport
import Testing

@testable import Model

/// `logit_bias` among the model's parameters: its place, and the rules that apply to it.
@Suite struct LogitBiasTests {
  private static let config: CLIPConfig = {
    var config = CLIPConfig(
      embedding: 6, vision: VisionConfig(imageSize: 8, patchSize: 4, width: 8, layers: 1, headWidth: 4),
      text: TextConfig(contextLength: 6, vocabularySize: 11, width: 8, heads: 2, layers: 1))
    config.initialLogitBias = -10
    return config
  }()

  /// It stands behind the logit scale and before the objective's own parameters, and is the model's.
  @Test func itsPlace() {
    let (model, _) = CLIP<Float>.student(Self.config, .only(\.siglip), teacherWidth: nil)
    let names = model.parameters.entries.map(\.name)
    #expect(names.suffix(2) == ["logit_scale", "logit_bias"] && model.entries.map(\.name) == names)
    var options = ObjectiveOptions.only(\.siglip)
    options.icl = 1
    let taught = CLIP<Float>.student(Self.config, options, teacherWidth: 4).model
    let places = taught.parameters.entries.drop { $0.name != "logit_scale" }.map(\.name)
    #expect(places.prefix(2) == ["logit_scale", "logit_bias"] && places.count > 3)
    #expect(places.dropFirst(2).allSatisfy { $0.hasPrefix("objective.") })
    #expect(taught.entries.last?.name == "logit_bias")
  }

  @Test func itDoesNotDecay() {
    for rule in DecayRule.allCases {
      let options = AdamW<Float>.Options(decay: 0.3, rule: rule, headDecay: 0.2)
      #expect(options.decay(of: "logit_bias", Shape()) == 0, "\(rule)")
    }
  }

  /// It belongs to no tower by itself.
  @Test func freezing() {
    let layout = CLIP<Float>.layout(Self.config)
    let names = layout.entries.map(\.name)
    let text = Frozen(Set(names.filter { Towers.text.contains($0) }), in: layout)
    #expect(text.text && !text.image && !text.contains("logit_bias"))
    let bias = Frozen(["logit_bias"], in: layout)
    #expect(!bias.text && !bias.image && !bias.logitScale && bias.contains("logit_bias"))
    let extent = layout.entry(named: "logit_bias")?.extent ?? 0..<0
    #expect(!extent.isEmpty && bias.covers(extent) && !bias.covers(0..<extent.upperBound))
  }

  @Test func inheritance() throws {
    var without = Self.config
    without.initialLogitBias = nil
    func isCut(_ source: CLIPConfig, _ student: CLIPConfig, _ towers: Towers) throws -> Bool {
      try Inheritance(from: source, to: student, towers: towers).cuts.contains { $0.name == "logit_bias" }
    }
    #expect(try isCut(Self.config, Self.config, .both) && !isCut(Self.config, Self.config, .text))
    #expect(try !isCut(without, Self.config, .both) && !isCut(Self.config, without, .both))
  }
}
