import Model
import Settings

/// TinyCLIP's automatic weight inheritance: hidden units, heads and MLP units that the model learns to do without are
/// cut.
struct PruneConfig: Section {
  /// Share of the blocks' parameters that is gone after the cut, counted from the model before any pruning.
  var sparsity = 0.0
  /// Where the target begins: what earlier stages have cut.
  var startSparsity = 0.0
  /// After so many steps the model is cut and its optimizer begins anew; until then the learning rate rises.
  var step = 0
  /// Steps over which the target rises from `start_sparsity` to `sparsity`.
  var ramp = 1000
  /// AdamW's rate for the masks, and for the multipliers that drive them.
  var rate = 0.02
  var towers = Towers.both

  mutating func fields(_ map: FieldMap) {
    map.required("sparsity", &sparsity, "the share of the blocks' parameters to cut away")
    map.field("start_sparsity", &startSparsity)
    map.required("step", &step, "the number of steps after which the model is cut")
    map.field("ramp", &ramp)
    map.field("rate", &rate)
    map.field("towers", &towers)
  }

  /// What is wrong, by the path of the key to change.
  func mistakes(steps: Int?) -> [(path: String, text: String)] {
    var found: [(path: String, text: String)] = []
    if !(sparsity > 0 && sparsity < 1) {
      found.append(("prune.sparsity", "expected more than 0 and less than 1, found \(sparsity)"))
    }
    if !(startSparsity >= 0 && startSparsity <= sparsity) {
      found.append(("prune.start_sparsity", "expected 0 to prune.sparsity (\(sparsity)), found \(startSparsity)"))
    }
    if step < 1 {
      found.append(("prune.step", "expected at least 1, found \(step)"))
    } else if let steps, step >= steps {
      found.append(("prune.step", "\(step) is not before the run's end (\(steps) steps); lower it, or raise steps"))
    }
    if ramp < 0 { found.append(("prune.ramp", "expected 0 steps or more, found \(ramp)")) }
    if rate <= 0 { found.append(("prune.rate", "expected more than 0, found \(rate)")) }
    return found
  }
}
