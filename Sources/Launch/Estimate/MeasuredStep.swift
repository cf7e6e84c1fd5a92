import Model
import Tensor

/// A training step that was measured on a named processor, from which the hours of other runs are estimated.
struct MeasuredStep {
  let processor: String
  /// The preset of the model; a run's own model is compared with one of the same kind, ViT or ResNet.
  let model: String
  let precision: ComputePrecision
  /// The pairs per second of two ranks with one core each.
  let pairsPerSecond: Double
  private static let cores = 2.0
  /// The tokens of each caption in `kinship bench step`.
  private static let captionTokens = 16.0
}

extension MeasuredStep {
  /// Each figure is of two cores of a virtual machine. A new line needs a figure that a command printed, and a line in
  /// the manual's article Results with command, machine and date.
  static let all: [MeasuredStep] = zen5 + zen4 + emeraldRapids + avx2

  // scripts/bench peer and scripts/bench peer --model RN50 --batch 16 --steps 3, November 2026. The last blocks still
  // computed all rows then, so a step takes less time now.
  private static let zen5 = steps("AMD EPYC (Zen 5)", vit: (fp32: 39.7, bf16: 68.5), rn50: (fp32: 10.7, bf16: 18.3))
  // The same commands, November 2026, before the last blocks computed only what is read, and before convolutions
  // through oneDNN.
  private static let zen4 = steps("AMD EPYC (Zen 4)", vit: (fp32: 16.3, bf16: 29.4), rn50: (fp32: 3.94, bf16: 7.27))
  private static let emeraldRapids = steps(
    "Intel Xeon (Emerald Rapids) without AMX", vit: (fp32: 19.7, bf16: 14.1), rn50: (fp32: 5.45, bf16: 3.71))
  // The same commands with --precision fp32, 1 December 2026; the processor has no products in bf16.
  private static let avx2 = steps("AMD EPYC with AVX2", vit: (fp32: 17.5, bf16: nil), rn50: (fp32: 4.1, bf16: nil))

  private static func steps(
    _ processor: String, vit: (fp32: Double, bf16: Double?), rn50: (fp32: Double, bf16: Double?)
  ) -> [MeasuredStep] {
    [("ViT-T-16", vit), ("RN50", rn50)].flatMap { model, found in
      [(ComputePrecision.fp32, Optional(found.fp32)), (.bf16, found.bf16)].compactMap { precision, rate in
        rate.map { MeasuredStep(processor: processor, model: model, precision: precision, pairsPerSecond: $0) }
      }
    }
  }

  /// The operations per second that a core reached in the step: three forwards of each pair.
  func rateOfCore() throws -> Double {
    let config = try CLIPConfig(preset: model)
    let operations = 3 * config.forwardOperations(tokens: Self.captionTokens, use: .training)
    return operations * pairsPerSecond / Self.cores
  }

  /// Returns true if a model is of the same kind.
  func resembles(_ config: CLIPConfig) throws -> Bool {
    (try CLIPConfig(preset: model).vision.stages == nil) == (config.vision.stages == nil)
  }
}
