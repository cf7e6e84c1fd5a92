import Dist
import Model
import Settings
import Tensor

/// The key `freeze` of a run file, a list of `ParameterPrefix`: towers (`image`, which is `visual`, and `text`), or
/// prefixes of open_clip's names (`visual.conv1`, `transformer.resblocks.0`, `logit_scale`).
extension RunConfig {
  var freezeMistakes: [Mistake] {
    var found: [Mistake] = []
    for (index, prefix) in freeze.enumerated() {
      found.expectText("a tower or the beginning of a name", "freeze.\(index)", prefix)
      found.require(
        !ParameterPrefix(prefix).contains(CLIPConfig.logitScale) || objective.fixedLogitScale == nil, "freeze.\(index)",
        "objective.logit_scale already fixes logit_scale; remove it, or set objective.logit_scale to learned")
    }
    found.require(
      freeze.isEmpty || prune == nil, "freeze", "prune cuts weights and freeze keeps them; remove one of the two")
    return found
  }

  /// Returns the frozen part of a model with this layout. Throws a `UserError` (exit code 64) for an entry that is the
  /// prefix of no name, with the nearest prefixes that there are, or if nothing would be left to train.
  func frozen<S: Scalar>(in layout: ParameterStore<S>) throws -> Frozen {
    guard !freeze.isEmpty else { return .none }
    let names = layout.entries.filter { $0.owner == .model }.map(\.name)
    var frozen: Set<String> = []
    for (index, prefix) in freeze.enumerated() {
      frozen.formUnion(try names.matching(prefix, "freeze.\(index)"))
    }
    guard frozen.count < names.count else {
      throw UserError(nil, "freeze leaves nothing of the model to train: remove an entry", status: .usage)
    }
    return Frozen(frozen, in: layout)
  }

  func freezeText<S: Scalar>(_ frozen: Frozen, _ layout: ParameterStore<S>) -> String? {
    guard !frozen.isEmpty else { return nil }
    let model = layout.entries.filter { $0.owner == .model }
    func count(_ entries: [NamedSlice]) -> Int { entries.reduce(0) { $0 + $1.shape.count } }
    let kept = count(model.filter { frozen.contains($0.name) })
    var text = "frozen: \(freeze.joined(separator: ", ")), \(kept) parameters of \(count(model))"
    for (isWhole, name) in [(frozen.image, "image"), (frozen.text, "text")] where isWhole {
      text += "; there is no backward pass through the \(name) tower"
    }
    let ending = ".running_mean"
    let norms = layout.buffers.map(\.name).filter { $0.hasSuffix(ending) }.map { $0.dropLast(ending.count) }
    let unchanged = norms.count { frozen.contains("\($0).weight") && frozen.contains("\($0).bias") }
    if unchanged > 0 { text += "; \(unchanged) of \(norms.count) batch norms use and keep their running statistics" }
    return text
  }

  var freezeWarnings: [String] {
    guard !freeze.isEmpty, start.from == nil, start.inherit == nil else { return [] }
    return [
      "freeze keeps weights that are initialized at random, unless the run resumes from a checkpoint: name trained "
        + "ones in init.from"
    ]
  }
}
