import Model
import Settings
import Tensor

/// `freeze` in a run file: towers (`visual`, `text`), or beginnings of open_clip's names that end where a part of the
/// name ends (`visual.conv1`, `transformer.resblocks.0`, `logit_scale`).
extension RunConfig {
  private static let textTower = "text"

  /// What is wrong with the list before the model is known.
  var freezeMistakes: [(path: String, text: String)] {
    var found: [(path: String, text: String)] = []
    for (index, prefix) in freeze.enumerated() {
      if prefix.isEmpty { found.append(("freeze.\(index)", "expected a tower or the beginning of a name, found \"\"")) }
      if prefix == "logit_scale", objective.fixedLogitScale != nil {
        found.append(
          (
            "freeze.\(index)",
            "objective.logit_scale holds logit_scale at a number already; take it out, or set objective.logit_scale to "
              + "learned"
          ))
      }
    }
    if !freeze.isEmpty, prune != nil {
      found.append(("freeze", "prune cuts weights and freeze keeps them; take one of the two out"))
    }
    return found
  }

  /// What stays as it is of a model with this layout.
  ///
  /// - Throws: a `ModelError` (exit code 64) for an entry that nothing begins with, with the nearest that there are; or
  ///   where nothing would be left to train.
  func frozen<S: Scalar>(in layout: ParameterStore<S>) throws -> Frozen {
    guard !freeze.isEmpty else { return .none }
    let names = layout.entries.map(\.name).filter { !$0.hasPrefix(Objective<S>.prefix) }
    var frozen: Set<String> = []
    for (index, prefix) in freeze.enumerated() {
      let found = names.filter { Self.isMeant($0, by: prefix) }
      guard !found.isEmpty else {
        throw ModelError(
          description:
            "freeze.\(index): nothing of the model has the name \"\(prefix)\", or a name that begins so; near it "
            + "are " + prefix.nearest(4, among: Self.beginnings(of: names)).joined(separator: ", "),
          exitCode: 64)
      }
      frozen.formUnion(found)
    }
    guard frozen.count < names.count else {
      throw ModelError(description: "freeze leaves nothing of the model to train: take something out", exitCode: 64)
    }
    return Frozen(frozen, in: layout)
  }

  private static func isMeant(_ name: String, by prefix: String) -> Bool {
    prefix == textTower ? Towers.text.contains(name) : name == prefix || name.hasPrefix("\(prefix).")
  }

  /// Everything that an entry may say.
  private static func beginnings(of names: [String]) -> [String] {
    var found: Set = [textTower]
    for name in names {
      let parts = name.split(separator: ".")
      for count in 1...parts.count { found.insert(parts.prefix(count).joined(separator: ".")) }
    }
    return found.sorted()
  }

  /// What the run's header says; nil where nothing is frozen.
  func freezeText<S: Scalar>(_ frozen: Frozen, _ layout: ParameterStore<S>) -> String? {
    guard !frozen.isEmpty else { return nil }
    let model = layout.entries.filter { !$0.name.hasPrefix(Objective<S>.prefix) }
    func count(_ entries: [ParameterStore<S>.Entry]) -> Int { entries.reduce(0) { $0 + $1.shape.count } }
    var text =
      "frozen: \(freeze.joined(separator: ", ")), \(count(model.filter { frozen.contains($0.name) })) parameters of "
      + "\(count(model))"
    for (isWhole, name) in [(frozen.image, "image"), (frozen.text, "text")] where isWhole {
      text += "; nothing runs backward through the \(name) tower"
    }
    let norms = layout.buffers.filter { $0.name.hasSuffix(".running_mean") }.map {
      $0.name.dropLast(".running_mean".count)
    }
    let still = norms.count { frozen.contains("\($0).weight") && frozen.contains("\($0).bias") }
    if still > 0 { text += "; \(still) of \(norms.count) batch norms use and keep their running statistics" }
    return text
  }

  /// What has been drawn is rarely worth keeping.
  var freezeWarnings: [String] {
    guard !freeze.isEmpty, start.from == nil, start.inherit == nil else { return [] }
    return [
      "freeze keeps weights that are drawn at random, unless the run goes on from a checkpoint: name better ones in init.from"
    ]
  }
}
