import Model
import Settings

/// What a run begins with, at its first step only; a run that is resumed has its own weights.
struct InitConfig: Section {
  /// A model of the same sizes, whose weights these are at first: a run's or checkpoint's folder, a file of weights as
  /// `kinship weights import` takes it, or the folder of one. `none`: all weights are drawn.
  var from: String?
  /// A model from which this one's weights are cut: a run's or checkpoint's folder, or a safetensors or
  /// PyTorch file with its `open_clip_config.json` beside it. `none`: nothing is cut.
  var inherit: String?
  /// Which towers inherit; the other one is drawn.
  var towers = Towers.both

  mutating func fields(_ map: FieldMap) {
    map.optional("from", &from, none: "none")
    map.optional("inherit", &inherit, none: "none")
    map.field("towers", &towers)
  }

  /// What is wrong, by the path of the key to change.
  var mistakes: [(path: String, text: String)] {
    var found: [(path: String, text: String)] = []
    for (key, path) in [("from", from), ("inherit", inherit)] where path?.isEmpty == true {
      found.append(("init.\(key)", "expected a path, or none, found \"\""))
    }
    if from != nil, inherit != nil {
      found.append(
        (
          "init.inherit",
          "init.from takes a model's weights as they are and init.inherit cuts them; set one of the two to none"
        ))
    }
    if from != nil, inherit == nil, towers != .both {
      found.append(("init.towers", "belongs to init.inherit; init.from takes over both towers: take it out"))
    }
    return found
  }
}
