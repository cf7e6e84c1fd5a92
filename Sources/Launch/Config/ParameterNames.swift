import Dist
import Model
import Settings
import Tensor

extension [String] {
  /// Returns those of these names of parameters that `prefix` stands for, the value of a run file's key. Throws a
  /// `UserError` (exit code 64) if there are none, with the nearest prefixes that there are.
  func matching(_ prefix: String, _ key: String) throws -> [String] {
    let found = filter(ParameterPrefix(prefix).contains)
    guard found.isEmpty else { return found }
    let nearest = prefix.nearest(4, among: ParameterPrefix.all(of: self)).joined(separator: ", ")
    throw UserError(
      key, "no parameter of the model has the name \"\(prefix)\" or begins with it; the nearest names are \(nearest)",
      status: .usage)
  }
}

/// The keys `groups` and `layer_decay` of the optimizer, beside the parameters that they are about.
extension OptimizerConfig {
  /// Throws a `UserError` (exit code 64) for a group without parameters: it is the prefix of no name, or all of its
  /// parameters are in groups with longer prefixes.
  func checkGroups<S: Scalar>(in layout: ParameterStore<S>) throws {
    let choices = options.groups.choices(for: layout.entries)
    for (index, group) in groups.enumerated() {
      let key = "\(Self.groupsKey).\(index).match"
      _ = try layout.entries.map(\.name).matching(group.match, key)
      guard !choices.contains(where: { $0.group == index }) else { continue }
      throw UserError(
        key, "all parameters of \"\(group.match)\" are in groups with longer prefixes; take this group out",
        status: .usage)
    }
  }

  /// Returns the header's lines about learning rates, which count parameters that are not frozen.
  func groupTexts<S: Scalar>(_ layout: ParameterStore<S>, _ frozen: Frozen) -> [String] {
    let trained = zip(layout.entries, options.groups.choices(for: layout.entries))
      .filter { !frozen.contains($0.0.name) }
    func parameters(_ group: Int?) -> String {
      Figures.count(trained.reduce(0) { $0 + ($1.1.group == group ? $1.0.shape.count : 0) }, "parameter")
    }
    var texts: [String] = []
    if !groups.isEmpty {
      let parts = groups.enumerated().map { index, group in
        "\(group.match) (\(parameters(index))) \(group.scale) × the learning rate"
          + (group.decay.map { ", weight decay \($0)" } ?? "")
      }
      texts.append("groups: \(parts.joined(separator: "; ")); the rest (\(parameters(nil))) as the run")
    }
    if let layerDecay, min(layerDecay.image, layerDecay.text) < 1 {
      let scales = ParameterGroups(layerDecay: layerDecay).choices(for: layout.entries).map(\.scale)
      let parts = [(Towers.image, layerDecay.image), (.text, layerDecay.text)].map { tower, decay in
        let least = zip(layout.entries, scales).filter { tower.contains($0.0.name) }.map { $0.1 }.min() ?? 1
        return "\(tower.rawValue) \(decay), from \(Figures.significant(least, 3)) × the learning rate at the input"
      }
      texts.append("layer decay: \(parts.joined(separator: "; "))")
    }
    return texts
  }
}
