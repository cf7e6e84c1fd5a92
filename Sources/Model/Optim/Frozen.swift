public import Tensor

/// The parameters of a model that training does not change.
public struct Frozen: Sendable, Equatable {
  /// Nothing is frozen.
  public static let none = Frozen()

  /// True if the whole image tower is frozen and needs no backward pass.
  public let image: Bool
  /// True if the whole text tower is frozen and needs no backward pass.
  public let text: Bool
  public let logitScale: Bool
  private let names: Set<String>
  /// Their ranges in every arena of the layout, including the gaps after them, in ascending order and joined where they
  /// touch.
  private let extents: [Range<Int>]

  private init() { (image, text, logitScale, names, extents) = (false, false, false, [], []) }

  /// - Parameters:
  ///   - names: the names of parameters of the model.
  ///   - store: the model's layout, with or without the objective's own parameters.
  public init<S: Scalar>(_ names: Set<String>, in store: ParameterStore<S>) {
    let model = store.entries.filter { $0.owner == .model }
    let frozen = model.filter { names.contains($0.name) }
    precondition(frozen.count == names.count, "not all of \(names) are parameters of the model")
    func isWhole(_ towers: Towers) -> Bool {
      model.allSatisfy { names.contains($0.name) || !towers.contains($0.name) }
    }
    image = isWhole(.image)
    text = isWhole(.text)
    logitScale = names.contains(CLIPConfig.logitScale)
    self.names = names
    extents = frozen.reduce(into: []) { extents, entry in
      if let last = extents.last, last.upperBound == entry.extent.lowerBound {
        extents[extents.count - 1] = last.lowerBound..<entry.extent.upperBound
      } else {
        extents.append(entry.extent)
      }
    }
  }

  public var isEmpty: Bool { names.isEmpty }

  public func contains(_ name: String) -> Bool { names.contains(name) }

  /// Returns whether all parameters in a range of the arena are frozen.
  public func covers(_ range: Range<Int>) -> Bool {
    extents.contains { $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound }
  }
}
