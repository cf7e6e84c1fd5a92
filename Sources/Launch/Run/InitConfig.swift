import Model

/// What a run begins with, at its first step only; a run that is resumed has its own weights.
struct InitConfig: Section {
  /// A model from which this one's weights are cut: a run's or checkpoint's folder, or a safetensors or
  /// PyTorch file with its `open_clip_config.json` beside it. `none`: all weights are drawn.
  var inherit: String?
  /// Which towers inherit; the other one is drawn.
  var towers = Towers.both

  mutating func fields(_ map: FieldMap) {
    map.optional("inherit", &inherit, none: "none")
    map.field("towers", &towers)
  }
}

extension Towers: FieldValue {}
