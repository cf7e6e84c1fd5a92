public import Settings

/// Which towers of a model something concerns.
public enum Towers: String, CaseIterable, FieldValue {
  case both, image, text

  public var image: Bool { self != .text }
  public var text: Bool { self != .image }

  /// Whether a parameter belongs to these towers. The logit scale belongs to the pair of them.
  public func contains(_ name: String) -> Bool {
    if name == "logit_scale" { return self == .both }
    return name.hasPrefix("visual.") ? image : text
  }
}
