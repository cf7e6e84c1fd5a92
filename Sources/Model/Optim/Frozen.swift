public import Tensor

/// The parameters of a model that training does not change.
public struct Frozen: Sendable, Equatable {
  /// Nothing is frozen.
  public static let none = Frozen()
  /// True if the whole image tower is frozen and needs no backward pass.
  public let image: Bool
  /// The same of the text tower.
  public let text: Bool
  /// True if the logit scale is frozen.
  public let logitScale: Bool
  private let names: Set<String>
  /// Their extents in every arena of the layout, in ascending order and joined where they touch.
  private let extents: [Range<Int>]

  private init() { (image, text, logitScale, names, extents) = (false, false, false, [], []) }

  /// Freezes these parameters of the model; its layout may have the objective's own parameters or not.
  public init<S: Scalar>(_ names: Set<String>, in store: ParameterStore<S>) {
    let model = store.entries.filter { $0.owner == .model }
    let frozen = model.filter { names.contains($0.name) }
    precondition(frozen.count == names.count, "not all of \(names) are parameters of the model")
    func isWhole(_ towers: Towers) -> Bool { model.allSatisfy { names.contains($0.name) || !towers.contains($0.name) } }
    (image, text) = (isWhole(.image), isWhole(.text))
    (logitScale, self.names) = (names.contains(CLIPConfig.logitScale), names)
    extents = frozen.reduce(into: []) { extents, entry in
      let touches = extents.last?.upperBound == entry.extent.lowerBound
      let start = touches ? extents.removeLast().lowerBound : entry.extent.lowerBound
      extents.append(start..<entry.extent.upperBound)
    }
  }

  /// True if nothing is frozen.
  public var isEmpty: Bool { names.isEmpty }
  /// Returns true if the parameter of this open_clip key is frozen.
  public func contains(_ name: String) -> Bool { names.contains(name) }

  /// Returns whether all parameters in a range of the arena are frozen.
  public func covers(_ range: Range<Int>) -> Bool {
    extents.contains { $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound }
  }
}
