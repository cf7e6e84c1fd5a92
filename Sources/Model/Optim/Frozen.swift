public import Tensor

/// The parameters of a model that training leaves as they are.
public struct Frozen: Sendable, Equatable {
  /// Nothing is frozen.
  public static let none = Frozen()

  /// Whether all of a tower is: no gradient goes into it.
  public let image: Bool
  public let text: Bool
  public let logitScale: Bool
  private let names: Set<String>
  /// Where they are in every arena of the layout, with the gaps behind them, by rising place, neighbours joined.
  private let extents: [Range<Int>]

  private init() { (image, text, logitScale, names, extents) = (false, false, false, [], []) }

  /// - Parameters:
  ///   - names: of parameters of the model.
  ///   - store: the model's layout, with or without an objective's own parameters.
  public init<S: Scalar>(_ names: Set<String>, in store: ParameterStore<S>) {
    let model = store.entries.filter { $0.owner == .model }
    let frozen = model.filter { names.contains($0.name) }
    precondition(frozen.count == names.count, "\(names) are parameters of the model")
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

  /// Whether nothing of a place in the arena is learned.
  public func covers(_ range: Range<Int>) -> Bool {
    extents.contains { $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound }
  }
}
