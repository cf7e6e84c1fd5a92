import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

/// Every loss and every case of the golden set, in Double and in Float.
@Suite struct ObjectiveGoldenTests {
  /// The presets that the set and the program have in common mean the same in both.
  @Test func presetsAreDefinedAlike() throws {
    let defined = try LossGoldenSet.meta().presets
    let common = ObjectivePreset.allCases.filter { defined[$0.rawValue] != nil }
    for preset in try Fixture.required(common, "presets of ours in losses/meta.json") {
      #expect(try defined[preset.rawValue]?.options() == preset.options, "\(preset)")
    }
  }

  @Test(arguments: try LossGoldenSet.sets()) func lossesInDouble(set: String) throws {
    try compareLosses(set, Double.self, value: 1e-10, gradient: 1e-10)
  }

  @Test(arguments: try LossGoldenSet.sets()) func lossesInSinglePrecision(set: String) throws {
    try compareLosses(set, Float.self, value: 1e-5, gradient: 1e-4)
  }

  private func compareLosses<S: Scalar>(_ set: String, _: S.Type, value: Double, gradient: Double) throws {
    let file = try SafetensorsFile(LossGoldenSet.file("\(set).safetensors"))
    let scene = try LossGoldenSet.scene(file, S.self)
    let meta = try LossGoldenSet.meta()
    for name in try LossGoldenSet.losses(of: set, in: file) {
      let outcome = try scene.run(LossGoldenSet.options(name, meta))
      let expected = try file.tensor("\(name).value", as: Double.self)
      #expect(Deviation([outcome.total], from: expected.array).relative <= value, "\(set) \(name)")
      var found = [("image", outcome.image), ("text", outcome.text), ("logit_scale", [outcome.logitScale])]
      for (key, parameter) in LossGoldenSet.parameters {
        if let numbers = outcome.own[parameter] { found.append((key, numbers)) }
      }
      for (key, numbers) in found {
        let wanted = try file.tensor("\(name).grad.\(key)", as: Double.self).array
        let deviation = Deviation(numbers, from: wanted)
        // Of a gradient that is exactly zero only rounding is left, of the size of the others.
        #expect(
          deviation.size == 0 ? deviation.absolute == 0 : deviation.relative <= gradient,
          "\(set) \(name) \(key): \(deviation)")
      }
      // What the objective did not declare has no gradient in the golden set either.
      for (key, parameter) in LossGoldenSet.parameters where outcome.own[parameter] == nil {
        guard file.contains("\(name).grad.\(key)") else { continue }
        #expect(
          try file.tensor("\(name).grad.\(key)", as: Double.self).array.allSatisfy { $0 == 0 }, "\(set) \(name) \(key)")
      }
    }
  }

  @Test(arguments: try LossGoldenSet.sets()) func intraCasesInDouble(set: String) throws {
    try compareIntra(set, Double.self, value: 1e-10, gradient: 1e-10)
  }

  @Test(arguments: try LossGoldenSet.sets()) func intraCasesInSinglePrecision(set: String) throws {
    try compareIntra(set, Float.self, value: 1e-5, gradient: 1e-4)
  }

  private func compareIntra<S: Scalar>(_ set: String, _: S.Type, value: Double, gradient: Double) throws {
    let scene = try LossGoldenSet.scene(SafetensorsFile(LossGoldenSet.file("\(set).safetensors")), S.self)
    let file = try SafetensorsFile(LossGoldenSet.file("\(set)_intra.safetensors"))
    let cases = try LossGoldenSet.cases()
    let indices = try Fixture.required(file.integers("case_index"), "cases in losses/\(set)_intra.safetensors")
    func rows(_ name: String, ofCases: Bool = true) throws -> [[Double]] {
      let tensor = try file.tensor(name, as: Double.self)
      let count = tensor.shape[0]
      try #require(ofCases ? count == indices.count : count > 0, "\(set) \(name) has \(count) rows")
      let (numbers, length) = (tensor.array, tensor.count / count)
      return (0..<count).map { Array(numbers[$0 * length..<($0 + 1) * length]) }
    }
    let (values, images, texts) = (try rows("value"), try rows("grad_image"), try rows("grad_text"))
    let slopes = try rows("grad_logit_scale").map { $0[0] }
    let (weights, divergences) = (
      (image: try rows("w_image"), text: try rows("w_text")),
      (image: try rows("D_image", ofCases: false), text: try rows("D_text", ofCases: false))
    )
    let divergenceRows = try file.integers("D_row")
    try #require(divergenceRows.count == indices.count && divergenceRows.allSatisfy(divergences.image.indices.contains))
    for (row, index) in indices.enumerated() {
      let intra = try #require(cases[index], "intra_cases.json has no case \(index), which \(set) has")
      let options = try intra.options()
      let outcome = try scene.run(.intra { $0 = options })
      let name = "\(set) case \(index), \(intra)"
      let terms = [outcome.total, outcome.value("intra_image") ?? .nan, outcome.value("intra_text") ?? .nan]
      for (found, wanted) in zip(terms, values[row]) {
        #expect(Deviation([found], from: [wanted]).relative <= value, "\(name)")
      }
      for (found, wanted) in [(outcome.image, images[row]), (outcome.text, texts[row])] {
        let deviation = Deviation(found, from: wanted)
        #expect(deviation.relative <= gradient, "\(name): \(deviation)")
      }
      // The scale's gradient is a sum over N² entries that cancel: it is held against their size.
      let size = max(abs(slopes[row]), slopes[row] == 0 ? 0 : abs(values[row][0]))
      #expect(
        abs(outcome.logitScale - slopes[row]) <= gradient * size, "\(name): \(outcome.logitScale), \(slopes[row])")
      for (anchors, (w, d)) in zip(
        outcome.report.anchors,
        [(weights.image[row], divergences.image), (weights.text[row], divergences.text)])
      {
        let d = d[divergenceRows[row]]
        let n = Double(d.count)
        let mean = d.reduce(0, +) / n
        let expected = [
          mean, (d.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / n).squareRoot(), w.reduce(0, +),
          (w.reduce(0) { $0 + ($1 * n - w.reduce(0, +)) * ($1 * n - w.reduce(0, +)) } / n).squareRoot(),
        ]
        let found = [
          anchors.divergenceMean, anchors.divergenceDeviation, anchors.weightMean, anchors.weightDeviation,
        ]
        #expect(Deviation(found, from: expected).relative <= gradient, "\(name): \(anchors.name) \(found) \(expected)")
      }
      #expect(outcome.report.anchors.count == 2)
    }
  }

  @Test(arguments: try LossGoldenSet.sets(), [2, 3]) func presetsOnSeveralRanks(set: String, ranks: Int) throws {
    let file = try SafetensorsFile(LossGoldenSet.file("\(set).safetensors"))
    let scene = try LossGoldenSet.scene(file, Double.self)
    let meta = try LossGoldenSet.meta()
    let losses = try LossGoldenSet.losses(of: set, in: file).filter { $0.hasPrefix(LossGoldenSet.presetPrefix) }
    for preset in try Fixture.required(losses, "presets for \(set) in losses/meta.json") {
      let outcome = ObjectiveScene.joined(try scene.run(LossGoldenSet.options(preset, meta), ranks: ranks))
      let expected = try file.tensor("\(preset).value", as: Double.self)
      #expect(Deviation([outcome.total], from: expected.array).relative <= 1e-10, "\(preset)")
      for (key, numbers) in [("image", outcome.image), ("text", outcome.text)] {
        let wanted = try file.tensor("\(preset).grad.\(key)", as: Double.self)
        #expect(Deviation(numbers, from: wanted.array).relative <= 1e-10, "\(preset) \(key)")
      }
    }
  }
}
