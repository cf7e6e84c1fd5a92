import Dist
import Foundation
import Model
import Tensor

/// The text of `kinship weights inspect`: a file's tensors as a table, and its differences from the model's sizes.
struct WeightsReport {
  let text: String

  /// Opens the same files as `ForeignModel`, but also without sizes.
  init(_ input: String, config: String?, preset: String?) throws {
    let path = try ForeignModel.weights(input)
    let file = try WeightsFile.open(path)
    let form = WeightsForm(of: file)
    var rows = [["tensor", "type", "shape", "numbers"]]
    var counts: [Int] = []
    for name in file.names {
      let type = try file.type(of: name).rawValue
      // The table also shows tensors whose shape we cannot represent.
      let shape = try? file.shape(of: name)
      rows.append([name, type, shape.map { "\($0)" } ?? "?", shape.map { "\($0.count)" } ?? "?"])
      counts.append(shape?.count ?? 0)
    }
    let tensors = Figures.count(file.names.count, "tensor")
    let numbers = counts.checkedSum.map { Figures.count($0, "number") } ?? "more than 2⁶³ numbers"
    var lines = ["\(path): \(form.title), \(tensors), \(numbers)"]
    let metadata = file.metadata.sorted { $0.key < $1.key }.map { key, text in
      text.count > 80 ? "\(key) (\(text.utf8.count) bytes)" : "\(key) \(text)"
    }
    if !metadata.isEmpty { lines.append("  metadata: " + metadata.joined(separator: ", ")) }
    if try file.verify(having: { _ in nil }) { lines.append("  whole: its SHA-256 is the one that it has inside") }
    if let file = file as? UnwrappedTensors {
      lines.append("  names without " + file.removed.joined(separator: ", "))
    }
    if config != nil || preset != nil || ForeignModel.config(of: file) != nil {
      let source = try ForeignModel(path, config: config, preset: preset)
      lines.append("  \(source.source): \(source.config.summary)")
      lines.append("  images: \(source.preprocessing.evaluationText)")
      let layout = CLIP<Float>.layout(source.config)
      let mismatches = try WeightsMatch(source.form, source.config, layout).mismatches(in: source.file)
      lines.append(mismatches.isEmpty ? "  fits these sizes" : "  does not fit these sizes:")
      lines += mismatches.map { "    \($0)" }
    } else {
      lines.append("  no sizes beside it: --config or --preset would check it")
    }
    text = (lines + [Figures.table(rows)]).joined(separator: "\n")
  }
}

extension CLIPConfig {
  var summary: String {
    let visual =
      vision.stages.map { "ResNet \($0.map(String.init).joined(separator: "-")), \(vision.width) wide" }
      ?? "ViT \(vision.layers) × \(vision.width), patches of \(vision.patchSize)"
    return "\(visual), images of \(vision.imageSize); text \(text.layers) × \(text.width), "
      + "\(text.vocabularySize) tokens, context \(text.contextLength); embedding \(embedding); "
      + "\(activation.rawValue); \(CLIP<Float>.layout(self).parameterCount) parameters"
  }
}
